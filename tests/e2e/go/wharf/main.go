// wharf REGISTRIES_YAML IMAGE FILE pulls as K3s and RKE2 do for themselves: their own reading of registries.yaml, with its endpoints, rewrites and TLS.
package main

import (
	"fmt"
	"os"

	"github.com/google/go-containerregistry/pkg/name"
	"github.com/google/go-containerregistry/pkg/v1/tarball"
	"github.com/rancher/wharfie/pkg/registries"
)

func main() {
	if len(os.Args) != 4 {
		fmt.Fprintln(os.Stderr, "usage: wharf REGISTRIES_YAML IMAGE FILE")
		os.Exit(2)
	}
	if err := pull(os.Args[1], os.Args[2], os.Args[3]); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func pull(file, image, to string) error {
	registry, err := registries.GetPrivateRegistries(file)
	if err != nil {
		return err
	}
	ref, err := name.ParseReference(image)
	if err != nil {
		return err
	}
	img, err := registry.Image(ref)
	if err != nil {
		return err
	}
	return tarball.WriteToFile(to, ref, img)
}
