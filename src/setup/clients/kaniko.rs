//! kaniko: its flags, and a pod that has them (kaniko README, "Additional Flags").

use super::environment::{self, SECRET, password, root_config_map, whole};
use super::mirror::{self, PUBLIC, SILENT, loopback_note};
use super::names::{self, Mirrored};
use super::seen::{self, ALPINE};
use crate::setup::{Facts, Mode, Plan};

pub(super) const MODES: &[Mode] = &[Mode::Proxy, Mode::Mirror];

const POD: &str = "/etc/seawall/setup/kaniko/pod.yaml";
/// kaniko's image sets SSL_CERT_DIR to the directory of this.
const CA: &str = "/kaniko/ssl/certs/seawall-ca.crt";

pub(super) fn plan(facts: &Facts, mode: Mode) -> Plan {
    let (arguments, variables, mut notes) = if mode == Mode::Proxy { proxy(facts) } else { as_mirror(facts) };
    let trusts = mode == Mode::Proxy || mirror::needs_ca(facts);
    let argument = |argument: &String| format!("        - \"{argument}\"\n");
    let arguments: String = arguments.iter().map(argument).collect();
    let variables = if variables.is_empty() { variables } else { format!("      env:\n{variables}") };
    let mount = format!("      volumeMounts:\n        - {{name: seawall-ca, mountPath: {CA}, subPath: ca.crt}}\n");
    let mount = if trusts { mount.as_str() } else { "" };
    let volume = "  volumes:\n    - name: seawall-ca\n      configMap:\n        name: seawall-ca\n";
    let volume = if trusts { volume } else { "" };
    let text = format!(
        "# seawall: a build by kaniko. Its context and destination are yours.\n{}apiVersion: v1\nkind: Pod\nmetadata:\n  name: kaniko\nspec:\n  \
         restartPolicy: Never\n  containers:\n    - name: kaniko\n      image: gcr.io/kaniko-project/executor:latest\n      args:\n        - \
         \"--context=git://github.com/OWNER/REPOSITORY\"\n        - \"--destination=REGISTRY/REPOSITORY:TAG\"\n{arguments}{variables}{mount}{volume}",
        if trusts { format!("{}---\n", root_config_map(facts)) } else { String::new() }
    );
    let parts = match (mode, trusts) {
        (Mode::Proxy, _) => "env, the mount and the volume",
        (_, true) => "args, the mount and the volume",
        (_, false) => "args",
    };
    notes.push(format!(
        "Take the {parts} over into your own pod or job; the executor's image itself is pulled by the node. Google's kaniko is archived since June \
         2025; its forks take the same flags."
    ));
    notes.extend(loopback_note(facts, "the pod"));
    let maps = if trusts { " configmap/seawall-ca" } else { "" };
    notes.push("The last check asks for docker.io/library/alpine:latest: put in what your FROM names.".to_owned());
    Plan {
        files: vec![whole(POD, text)],
        commands: vec![format!("kubectl apply -f {POD}")],
        check: seen::pulled(facts, &[], "kubectl logs -f kaniko".to_owned(), &ALPINE),
        notes,
        undo: vec![format!("The cluster keeps them: kubectl delete pod/kaniko{maps}.")],
    }
}

type Parts = (Vec<String>, String, Vec<String>);

fn proxy(facts: &Facts) -> Parts {
    let mut notes = vec!["Pushes go through seawall, too, and are left as they are.".to_owned(), password(SECRET)];
    notes.extend(environment::plain_http_note(facts));
    (Vec::new(), environment::yaml(facts, 8), notes)
}

/// kaniko sends no `?ns=`: the registry is in the path at seawall, behind a part without a dot,
/// since kaniko takes a first part with one for the registry to ask (pkg/image/remote,
/// `remapRepository`).
fn as_mirror(facts: &Facts) -> Parts {
    let authority = facts.address.authority();
    let map = |(host, path): (String, String)| match host.as_str() {
        // What go-containerregistry calls Docker Hub, whatever the Dockerfile does.
        "docker.io" => format!("--registry-map=index.docker.io={authority}"),
        host if path.contains('.') => format!("--registry-map={host}={authority}/seawall/{path}"),
        host => format!("--registry-map={host}={authority}/{path}"),
    };
    let paths = names::paths(&facts.registries).into_iter().filter(|(host, _)| host != "index.docker.io");
    let mut arguments: Vec<_> = paths.map(map).collect();
    let trust = if mirror::needs_ca(facts) {
        format!("--registry-certificate={authority}={CA}")
    } else {
        format!("--insecure-registry={authority}")
    };
    arguments.push(trust);
    let mut notes = vec![
        PUBLIC.to_owned(),
        SILENT.to_owned(),
        format!(
            "Docker Hub alone: --registry-mirror={authority}. --skip-default-registry-fallback makes a build fail where seawall has nothing."
        ),
    ];
    notes.extend(Mirrored::of(&facts.registries).note("--registry-map"));
    notes.push(mirror::list_note(facts, "kaniko", Mode::Mirror));
    (arguments, String::new(), notes)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::setup::clients::example;

    #[test]
    fn as_a_proxy_the_root_is_where_kaniko_looks() {
        let plan = plan(&example::facts("http://seawall.lab:3128"), Mode::Proxy);
        example::assert_sound(&plan);
        let text = example::text(&plan, POD);
        assert!(text.contains("{name: HTTPS_PROXY, value: \"http://seawall.lab:3128\"}"), "{text}");
        assert!(
            text.contains("mountPath: /kaniko/ssl/certs/") && text.contains("    -----BEGIN CERTIFICATE-----\n"),
            "{text}"
        );
    }

    #[test]
    fn every_registry_is_mapped() {
        for (address, flag, trusts) in [
            ("http://seawall.lab:3128", "--insecure-registry=seawall.lab:3128", false),
            (
                "https://seawall.lab:3128",
                "--registry-certificate=seawall.lab:3128=/kaniko/ssl/certs/seawall-ca.crt",
                true,
            ),
        ] {
            let plan = plan(&example::facts(address), Mode::Mirror);
            example::assert_sound(&plan);
            let text = example::text(&plan, POD);
            for (host, path) in names::paths(&example::registries()) {
                let mapped = match (host.as_str(), path.contains('.')) {
                    ("docker.io", _) => "index.docker.io=seawall.lab:3128".to_owned(),
                    ("index.docker.io", _) => continue,
                    (host, true) => format!("{host}=seawall.lab:3128/seawall/{path}"),
                    (host, false) => format!("{host}=seawall.lab:3128/{path}"),
                };
                assert!(text.contains(&format!("\"--registry-map={mapped}\"")), "{mapped}");
            }
            assert!(text.contains(flag), "{text}");
            assert_eq!(text.contains("ConfigMap"), trusts);
            assert_eq!(plan.notes.join(" ").contains("the mount"), trusts);
            assert!(plan.notes.iter().any(|note| note.contains("*.pkg.dev")));
        }
    }
}
