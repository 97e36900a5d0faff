//! `seawall images`: what manifests name, what of it is in the cache, and the same under a mirror's
//! names.

use std::io::Write as _;
use std::process::{Command, Output, Stdio};

use serde_json::{Value, json};

use crate::flight::landed;
use crate::harness::*;

const HUB: &str = "registry-1.docker.io";

/// `seawall images` with built-in defaults and this on stdin. Not on the test's own runtime: it
/// asks seawall in there.
async fn images(args: &[&str], stdin: &str) -> Output {
    images_by("", args, stdin).await
}

/// The same with a configuration.
async fn images_by(toml: &str, args: &[&str], stdin: &str) -> Output {
    let toml = toml.to_owned();
    let args: Vec<String> = args.iter().map(|arg| (*arg).to_owned()).collect();
    let stdin = stdin.to_owned();
    let running = move || {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("seawall.toml"), toml).unwrap();
        let mut seawall = Command::new(env!("CARGO_BIN_EXE_seawall"));
        seawall.arg("images").args(args).current_dir(dir.path()).env_remove("SEAWALL_CONFIG").env("SEAWALL_ADMIN", "");
        seawall.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = seawall.spawn().unwrap();
        child.stdin.take().unwrap().write_all(stdin.as_bytes()).unwrap();
        child.wait_with_output().unwrap()
    };
    tokio::task::spawn_blocking(running).await.unwrap()
}

fn said(output: &Output) -> (Option<i32>, String, String) {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    (output.status.code(), text(&output.stdout), text(&output.stderr))
}

async fn api(seawall: &Seawall, query: &str) -> Value {
    let admin = Client::plain(seawall.admin());
    let reply = admin.get(&format!("http://{}/api/v1/images{query}", seawall.admin())).send().await.unwrap();
    serde_json::from_slice(reply.bytes()).unwrap_or_else(|_| json!(String::from_utf8_lossy(reply.bytes())))
}

/// Two platforms in the index, one of them pulled; a whole image; one whose layers were never asked
/// for.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_in_the_cache_is_said_of_tags_and_digests() {
    let pki = Pki::new();
    let hub = Registry::new(HUB)
        .image("library/alpine:3.20", Image::two_platforms())
        .image("library/redis:8", Image::multi_layer())
        .image("library/nginx:1", Image::of(vec![Blob::generated(31, 2 << 10), Blob::generated(32, 3 << 10)]))
        .start(&pki)
        .await;
    let seawall = Seawall::before(&hub).start(&pki).await;
    assert_eq!(api(&seawall, "").await, json!({ "images": [], "next": null }));
    let client = seawall.client();
    client.pull("docker.io/library/alpine:3.20", Style::Docker).await.unwrap();
    client.pull("docker.io/library/redis:8", Style::Docker).await.unwrap();
    let manifest = client.get(&format!("https://{HUB}/v2/library/nginx/manifests/1")).send().await.unwrap();
    assert_eq!(manifest.status, 200);
    landed(&seawall).await;

    let all = api(&seawall, "").await;
    let row = |image: &Value| {
        let text = |key: &str| image[key].as_str().unwrap_or_default().to_owned();
        (text("name"), text("cached"), image["platforms"].to_string())
    };
    let rows: Vec<_> = all["images"].as_array().unwrap().iter().map(row).collect();
    let expected = [
        ("docker.io/library/alpine:3.20", "partly", "[\"linux/amd64\"]"),
        ("docker.io/library/nginx:1", "partly", "[]"),
        ("docker.io/library/redis:8", "held", "[]"),
    ];
    assert_eq!(
        rows,
        expected.map(|(name, cached, platforms)| (name.to_owned(), cached.to_owned(), platforms.to_owned()))
    );
    assert!(all["next"].is_null() && all["images"][2]["size"].as_u64().unwrap() > 0, "{all:#}");
    let page = api(&seawall, "?limit=2").await;
    assert_eq!(
        (page["images"].as_array().unwrap().len(), page["next"].as_str()),
        (2, Some("docker.io/library/nginx:1"))
    );
    let rest = api(&seawall, "?limit=2&after=docker.io%2Flibrary%2Fnginx%3A1").await;
    assert_eq!(row(&rest["images"][0]).0, "docker.io/library/redis:8");
    assert_eq!(api(&seawall, "?limit=none").await, json!("limit is a number from 1 to 1000\n"));

    let digest = all["images"][2]["digest"].as_str().unwrap();
    let manifests = format!(
        "services:\n  a: {{image: alpine:3.20}}\n  b: {{image: redis:8}}\n  c: {{image: 'redis@{digest}'}}\n  \
         d: {{image: nope}}\n  e: {{image: ghcr.io/other/redis@{digest}}}\n  f: {{image: lab.corp/x}}\n  g: {{image: docker.io/redis:8}}\n"
    );
    let admin = seawall.admin().to_string();
    let before = hub.requests().len();
    let (code, stdout, stderr) = said(&images(&["--json", "--admin", &admin], &manifests).await);
    assert_eq!(code, Some(0), "{stderr}");
    let found: Value = serde_json::from_str(&stdout).unwrap();
    let row = |image: &Value| {
        let text = |key: &str| image[key].as_str().unwrap_or_default().to_owned();
        format!("{} {} {} {}", text("name"), image["used"], text("cached"), image["configured"])
    };
    let rows: Vec<_> = found["images"].as_array().unwrap().iter().map(row).collect();
    assert_eq!(
        rows,
        [
            "docker.io/library/alpine:3.20 1 partly true".to_owned(),
            "docker.io/library/nope:latest 1 no true".to_owned(),
            format!("docker.io/library/redis@{digest} 1 held true"),
            "docker.io/library/redis:8 2 held true".to_owned(),
            format!("ghcr.io/other/redis@{digest} 1 no true"),
            "lab.corp/x:latest 1 no false".to_owned(),
        ]
    );
    assert_eq!(hub.requests().len(), before, "nobody upstream is asked");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_a_seawall_that_runs_it_says_so_and_lists_them_all_the_same() {
    let (code, stdout, stderr) = said(&images(&[], "FROM alpine\nFROM alpine:$V\n").await);
    assert_eq!(
        (code, stdout.as_str()),
        (
            Some(0),
            "IMAGE                            USED  BY   CACHED   NOTE\ndocker.io/library/alpine:latest  1     tag  unknown\n"
        )
    );
    assert!(stderr.contains("stdin:2: alpine:$V: left out: it has a variable without a default"), "{stderr}");
    assert!(stderr.contains("what is in the cache is not known: there is no admin listener to ask"), "{stderr}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn names_are_rewritten_and_nothing_else() {
    let yaml = "# web\napiVersion: v1\nkind: Pod\nspec:\n  containers:\n  - name: a   # first\n    image: \"alpine\"\n  - {name: b, image: localhost:5000/x}\n";
    let (code, stdout, stderr) = said(&images(&["--rewrite", "seawall.corp:3128"], yaml).await);
    let expected = yaml.replace("\"alpine\"", "\"seawall.corp:3128/docker.io/library/alpine\"");
    assert_eq!((code, stdout.as_str()), (Some(0), expected.as_str()));
    assert_eq!(
        stderr,
        "stdin:8: localhost:5000/x: left: localhost:5000 is no registry that is configured: add a [[registry]]\n"
    );
    assert_eq!(said(&images(&["--rewrite", "seawall.corp:3128"], &stdout).await).1, expected);

    let deployment = json!({"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "web", "namespace": "prod"},
        "spec": {"template": {"spec": {"containers": [{"name": "app", "image": "nginx:1"}]}}}});
    let list = json!({"apiVersion": "v1", "kind": "List", "items": [deployment]}).to_string();
    let (code, stdout, _) = said(&images(&["--rewrite", "seawall.corp:3128"], &list).await);
    let wanted = "kubectl -n prod set image deployment/web app=seawall.corp:3128/docker.io/library/nginx:1\n";
    assert_eq!((code, stdout.as_str()), (Some(0), wanted));
}

/// Below a prefix of its own a registry's images have the names that `rewrite` gives them: no seawall
/// is on the way there. At seawall's mirror it is.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_registry_has_a_prefix_of_its_own() {
    let toml = "[[registry]]\nname = \"docker.io\"\nrewrite = [{ from = \"^bitnami/(.*)$\", to = \"bitnamilegacy/$1\" }]\n\
                [[registry]]\nname = \"lab\"\naliases = [\"old.lab\"]\nhosts = [\"lab.corp:5000\"]\n\
                rewrite = [{ from = \"^team/(.*)$\", to = \"teams/$1\" }]\n";
    let digest = format!("sha256:{}", "ab".repeat(32));
    let yaml = format!(
        "services:\n  a: {{image: bitnami/redis:7}}\n  b:\n    image: 'alpine:3.20@{digest}'\n  \
         c: {{image: \"ghcr.io/owner/app\"}}\n  d: {{image: lab.corp:5000/team/x:1}}\n  e: {{image: quay.io/a/b:1}}\n"
    );
    let hub = ["--rewrite", "docker.io=123.dkr.ecr.eu-west-1.amazonaws.com/hub"];
    let others = ["--rewrite", "ghcr.io=harbor.corp/ghcr/", "--rewrite", "lab=harbor.corp/lab"];
    let changed = |pairs: &[(&str, &str)]| pairs.iter().fold(yaml.clone(), |text, (from, to)| text.replace(from, to));
    let ecr = "123.dkr.ecr.eu-west-1.amazonaws.com/hub";
    let (redis, alpine) = (format!("{ecr}/bitnamilegacy/redis:7"), format!("'{ecr}/library/alpine:3.20"));
    let of_hub = [("bitnami/redis:7", redis.as_str()), ("'alpine:3.20", alpine.as_str())];
    let of_others =
        [("ghcr.io/owner/app", "harbor.corp/ghcr/owner/app"), ("lab.corp:5000/team/x:1", "harbor.corp/lab/teams/x:1")];

    let (code, stdout, stderr) = said(&images_by(toml, &hub, &yaml).await);
    assert_eq!((code, stdout), (Some(0), changed(&of_hub)), "{stderr}");
    let all = [&hub[..], &others].concat();
    let (code, stdout, stderr) = said(&images_by(toml, &all, &yaml).await);
    assert_eq!((code, stdout.as_str()), (Some(0), changed(&[of_hub, of_others].concat()).as_str()), "{stderr}");
    let (code, again, stderr) = said(&images_by(toml, &all, &stdout).await);
    assert_eq!((code, again), (Some(0), stdout), "what has its prefix keeps it: {stderr}");
    // An alias is the registry, and what has no prefix goes to the mirror, which rewrites by itself.
    let mirror = ["--rewrite", "old.lab=harbor.corp/lab", "--rewrite", "seawall.corp:3128"];
    let (code, stdout, stderr) = said(&images_by(toml, &mirror, &yaml).await);
    assert!(code == Some(0) && stdout.contains("image: harbor.corp/lab/teams/x:1}"), "{stdout}{stderr}");
    assert!(stdout.contains("image: seawall.corp:3128/docker.io/bitnami/redis:7}"), "{stdout}");

    for (args, wanted) in [
        (["--rewrite", "nowhere=harbor.corp/x", "--rewrite", "lab=harbor.corp/lab"], "nowhere"),
        (["--rewrite", "lab=a.corp/x", "--rewrite", "lab=b.corp/x"], "lab has two prefixes"),
    ] {
        let (code, stdout, stderr) = said(&images_by(toml, &args, &yaml).await);
        assert!(code != Some(0) && stdout.is_empty() && stderr.contains(wanted), "{args:?}: {code:?} {stderr}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_wrong_has_a_code_and_a_line() {
    for (args, stdin, code, wanted) in [
        (&["--rewrite", "seawall"][..], "", 2, "cannot stand before names of images; valid: seawall.corp:3128"),
        (&["--rewrite", "seawall.corp", "--json"], "", 2, "cannot be used with"),
        (&["--kind", "toml"], "", 2, "possible values: json, yaml, dockerfile"),
        (&["/nowhere/compose.yaml"], "", 1, "/nowhere/compose.yaml"),
        (&[], "a: b\nc: [\n", 1, "seawall: stdin: line 3: not YAML"),
        (&["--kind", "json"], "a: b\n", 1, "seawall: stdin: not JSON"),
        (&["--admin", "127.0.0.1:1"], "a: b\n", 0, "no image is named in stdin\n"),
        (&[], "FROM a\u{1b}[2J:x\n", 0, "stdin:1: a\\u{1b}[2J:x: left out"),
        (&["--rewrite", "seawall.corp", "-", "-"], "a: b\n", 1, "one file at a time"),
    ] {
        let output = images(args, stdin).await;
        let (said_code, _, stderr) = said(&output);
        assert!(said_code == Some(code) && stderr.contains(wanted), "{args:?}: {said_code:?} {stderr}");
    }
}
