//! Checks that show something. A client whose setup is wrong goes to the registry itself and says
//! nothing: so it pulls, and then seawall is asked whether it has that. Where there is nothing that
//! pulls, something is fetched, with the certificate checked, and the answer has to be seawall's.

use super::mirror;
use crate::setup::{Content, Facts, File, Mode};

/// A small public image.
pub(super) struct Image {
    /// As it is pulled.
    pub(super) name: &'static str,
    registry: &'static str,
    manifest: &'static str,
}

/// Its registry wants no token.
pub(super) const PAUSE: Image =
    Image { name: "registry.k8s.io/pause:3.10", registry: "registry.k8s.io", manifest: "pause/manifests/3.10" };
/// For those that have mirrors of Docker Hub alone.
pub(super) const HELLO: Image = Image {
    name: "docker.io/library/hello-world",
    registry: "docker.io",
    manifest: "library/hello-world/manifests/latest",
};

/// What pods of builds look at.
pub(super) const ALPINE: Image =
    Image { name: "docker.io/library/alpine", registry: "docker.io", manifest: "library/alpine/manifests/latest" };

/// By a dockerd: as its mirror seawall is asked for Docker Hub's images alone.
pub(super) fn docker(facts: &Facts, files: &[File], mode: Mode, place: &str) -> Vec<String> {
    let image = if mode == Mode::Mirror { &HELLO } else { &PAUSE };
    let place = if place.is_empty() { String::new() } else { format!("   # {place}") };
    pulled(facts, files, format!("docker pull {}{place}", image.name), image)
}

/// `pull`, and whether seawall has it from there. `files` may have the root, if it is asked by TLS.
pub(super) fn pulled(facts: &Facts, files: &[File], pull: String, image: &Image) -> Vec<String> {
    let Image { registry, manifest, .. } = image;
    let url = format!("{}/v2/{manifest}?ns={registry}", facts.address);
    let ca = root_of(facts, files).map(|path| format!("--cacert {path} ")).unwrap_or_default();
    vec![
        pull,
        format!(
            "curl -fsSI {ca}'{url}' | grep -iE '^cache-status: seawall; (hit|fwd=stale)'   # it has it from that pull"
        ),
    ]
}

/// The file with nothing but the root.
fn root_of(facts: &Facts, files: &[File]) -> Option<String> {
    let is_root = |file: &&File| matches!(&file.content, Content::Whole(text) if text.starts_with("-----BEGIN"));
    let root = files.iter().find(is_root).filter(|_| mirror::needs_ca(facts))?;
    Some(root.path.display().to_string())
}

/// By the machine's own way, with its own trust.
pub(super) fn fetched() -> String {
    format!("{FETCH} | {ANSWERED}   # no line: it is not seawall that answers, or its root is not trusted")
}

/// With a service's variables.
pub(super) fn fetched_by(service: &str) -> String {
    format!(
        "systemd-run -q --wait --pipe --collect -p Environment=\"$(systemctl show -P Environment {service})\" {FETCH} | {ANSWERED}"
    )
}

/// Where the resolver on this machine leads, which needs not trust seawall itself.
pub(super) fn resolved(facts: &Facts) -> Vec<String> {
    let root = format!("curl -fsS {}/ca.crt -o seawall-ca.crt", facts.address);
    let root = if mirror::needs_ca(facts) { format!("{root} -k   # compare it with seawall ca show") } else { root };
    let address = "$(dig @127.0.0.1 +short registry.k8s.io A registry.k8s.io AAAA | tail -n 1)";
    let fetch =
        FETCH.replace("-fsSI ", &format!("-fsSI --cacert seawall-ca.crt --resolve \"registry.k8s.io:443:{address}\" "));
    vec![root, format!("{fetch} | {ANSWERED}")]
}

const FETCH: &str = "curl -fsSI https://registry.k8s.io/v2/pause/manifests/3.10";
const ANSWERED: &str = "grep -i '^cache-status: seawall'";

#[cfg(test)]
mod tests {
    use super::*;
    use crate::setup::clients::example;

    #[test]
    fn by_tls_the_root_is_the_one_that_was_written() {
        let file = |text: &str| File { path: "/etc/a/ca.crt".into(), content: Content::Whole(text.to_owned()) };
        let asked = |address: &str, text: &str| {
            let lines = pulled(&example::facts(address), &[file(text)], "pull".to_owned(), &PAUSE);
            lines[1].split(" | ").next().unwrap().to_owned()
        };
        let url = "/v2/pause/manifests/3.10?ns=registry.k8s.io'";
        let plain = format!("curl -fsSI 'http://seawall.lab:3128{url}");
        assert_eq!(asked("http://seawall.lab:3128", example::PEM), plain);
        let trusted = format!("curl -fsSI --cacert /etc/a/ca.crt 'https://seawall.lab{url}");
        assert_eq!(asked("https://seawall.lab", example::PEM), trusted);
        assert_eq!(asked("https://seawall.lab", "# no root"), format!("curl -fsSI 'https://seawall.lab{url}"));
    }
}
