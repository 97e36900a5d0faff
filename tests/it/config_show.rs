//! `seawall config show`: what is in force, and where it is from.

use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::{Command, Output};

use serde_json::{Value, json};

struct Place {
    dir: tempfile::TempDir,
}

impl Place {
    fn new(config: &str) -> Place {
        let place = Place { dir: tempfile::tempdir().unwrap() };
        place.put("seawall.toml", config);
        place
    }

    fn path(&self) -> &Path {
        self.dir.path()
    }

    fn put(&self, name: &str, text: &str) {
        std::fs::write(self.path().join(name), text).unwrap();
    }

    fn run(&self, words: &[&str], env: &[(&str, &str)]) -> Output {
        let mut command = Command::new(env!("CARGO_BIN_EXE_seawall"));
        command.current_dir(self.path()).env_remove("SEAWALL_CONFIG").env_remove("RUST_LOG");
        command.args(words).envs(env.iter().copied()).output().unwrap()
    }

    fn show(&self, words: &[&str], env: &[(&str, &str)]) -> String {
        let output = self.run(&[&["config", "show"], words].concat(), env);
        assert_eq!((output.status.code(), text(&output.stderr)), (Some(0), String::new()));
        text(&output.stdout)
    }

    fn json(&self, words: &[&str], env: &[(&str, &str)]) -> Value {
        serde_json::from_str(&self.show(&[words, &["--json"]].concat(), env)).unwrap()
    }
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).unwrap()
}

const EVERY_WAY: &str = r#"
[cache]
max_size = "1GiB"
min_free = "2GiB"

[upstream]
hosts = { "ghcr.io" = "192.0.2.1" }

[[registry]]
name = "docker.io"
reserve = 5

[[registry]]
name = "lab"
upstreams = [{ url = "http://lab:5000" }]
rewrite = [{ from = "^a/(.*)$", to = "b/$1" }]
"#;

#[test]
fn each_value_and_where_it_is_from() {
    let place = Place::new(EVERY_WAY);
    let env = [("SEAWALL_CACHE__MAX_SIZE", "50GiB"), ("RUST_LOG", "debug")];
    let shown = place.show(&["--data", "there"], &env);
    for line in [
        "# seawall.toml, variables, flags and defaults\nlisten         = [\"127.0.0.1:3128\"]  # default\n",
        "data           = \"there\"             # flag --data\n",
        "\n[log]\nlevel  = \"debug\"  # environment variable RUST_LOG\n",
        "\nmax_size       = \"50GiB\"  # environment variable SEAWALL_CACHE__MAX_SIZE\n",
        "\nmin_free       = \"2GiB\"   # seawall.toml:4\n",
        "\nmax_per_client      = 1000   # default\n",
        "\nhosts               = { \"ghcr.io\" = \"192.0.2.1\" }  # seawall.toml:7\n",
        "\nreserve                 = 5                                           # seawall.toml:11\n",
        "\nupstreams               = [{ url = \"https://registry-1.docker.io\" }]  # built in\n",
        "\n# built in, shown with --all: ghcr.io quay.io",
    ] {
        assert!(shown.contains(line), "{line:?} in\n{shown}");
    }
    let said = place.json(&["--data", "there"], &env);
    assert_eq!(said["file"], "seawall.toml");
    assert_eq!(said["keys"]["data"], json!({ "value": "there", "from": "flag --data" }));
    assert_eq!(said["keys"]["cache.min_free"], json!({ "value": "2GiB", "from": "seawall.toml:4" }));
    assert_eq!(said["keys"]["log.level"], json!({ "value": "debug", "from": "environment variable RUST_LOG" }));
    assert_eq!(said["registries"][1]["rewrite"]["value"], json!([{ "from": "^a/(.*)$", "to": "b/$1" }]));
    assert_eq!((said["registries"].as_array().unwrap().len(), said["builtin"].as_array().unwrap().len()), (2, 17));
    assert_eq!(place.json(&["--all"], &[])["registries"].as_array().unwrap().len(), 19);
    // What is not understood does not win.
    assert_eq!(place.json(&[], &[("RUST_LOG", "a=b=c")])["keys"]["log.level"]["value"], "info");
}

/// What is shown may be written, and means the same.
#[test]
fn it_reads_back_as_itself() {
    let values = |place: &Place| {
        let mut said = place.json(&["--all"], &[]);
        let keys = said["keys"].as_object_mut().unwrap().values_mut();
        keys.for_each(|setting| drop(setting.as_object_mut().unwrap().remove("from")));
        let registries = said["registries"].as_array().unwrap().iter();
        let registries = registries.map(|one| {
            (one["name"]["value"].clone(), one["hosts"]["value"].clone(), one["upstreams"]["value"].clone())
        });
        (said["keys"].clone(), registries.collect::<Vec<_>>())
    };
    let place = Place::new(&format!("{EVERY_WAY}[[registry]]\nname = \"gcr.io\"\nreserve = 1\n"));
    let again = Place::new(&place.show(&["--all"], &[]));
    assert_eq!(values(&again), values(&place));
}

#[test]
fn no_secret_is_shown() {
    let hash = bcrypt::hash("hunter2", 4).unwrap();
    let place = Place::new(
        "[clients]\nusers_file = \"users\"\n[upstream]\nproxy = \"http://jane:hunter2@proxy.corp:8080\"\n\
         [[registry]]\nname = \"lab\"\nusername = \"ci\"\npassword_file = \"password\"\n\
         [[registry.upstreams]]\nurl = \"https://lab\"\nusername = \"bot\"\npassword_file = \"password\"\n\
         [[registry]]\nname = \"ghcr.io\"\ndocker_config = \"docker.json\"\n",
    );
    place.put("users", &format!("ci:{hash}\n"));
    place.put("password", "hunter2\n");
    // "x:hunter2"
    place.put("docker.json", "{\"auths\": {\"ghcr.io\": {\"auth\": \"eDpodW50ZXIy\"}}}");
    let secrets = ["hunter2", "eDpodW50ZXIy", "jane", &hash];
    let stray = [("SEAWALL_TOKEN", "hunter2"), ("SEAWALL_CACHE__PASSWORD", "hunter2")];
    for env in [
        &[][..],
        &stray,
        &[("SEAWALL_UPSTREAM__PROXY", "socks5://jane:hunter2@proxy.corp")],
        &[("SEAWALL_UPSTREAM", "{ proxy = \"http://jane:hunter2@proxy.corp\" }")],
        &[("SEAWALL_UPSTREAM__PROXY", "http://jane@proxy.corp"), ("SEAWALL_UPSTREAM__PROXY_PASSWORD_FILE", "password")],
    ] {
        for words in [&["config", "show"][..], &["config", "show", "--all"], &["config", "show", "--json", "--all"]] {
            let output = place.run(words, env);
            assert_eq!(output.status.code(), Some(0), "{output:?}");
            let shown = text(&output.stdout);
            assert!(shown.contains("://(hidden)@proxy.corp") && shown.contains("\"password\""), "{shown}");
            let all = shown + &text(&output.stderr);
            assert!(!secrets.iter().any(|secret| all.contains(secret)), "{env:?}: {all}");
        }
    }
}

/// What is wrong is said as `serve` says it, and no more.
#[test]
fn a_wrong_configuration_is_an_error_as_it_is_for_serve() {
    let place = Place::new("");
    std::fs::create_dir(place.path().join("directory")).unwrap();
    place.put("closed", "");
    std::fs::set_permissions(place.path().join("closed"), std::fs::Permissions::from_mode(0o0)).unwrap();
    // root may read all.
    let closed = std::fs::read(place.path().join("closed")).is_err().then_some(("-c", "closed", "Permission denied"));
    let files = [("-c", "directory", "Is a directory"), ("-c", "missing", "No such file")];
    for (flag, file, said) in files.into_iter().chain(closed) {
        let [shown, served] = [["config", "show"].as_slice(), &["serve"]]
            .map(|command| place.run(&[command, &[flag, file]].concat(), &[]));
        assert_eq!((shown.status.code(), text(&shown.stdout)), (Some(2), String::new()), "{file}");
        assert!(text(&shown.stderr).contains(said), "{shown:?}");
        assert_eq!((shown.status.code(), shown.stderr), (served.status.code(), served.stderr));
    }
    for (config, said) in [
        ("lissten = []", "did you mean `listen`?"),
        ("[cache]\nmax_size = \"a\"\n[tunnel]\nports = [0]", "max_size"),
        ("[clients]\nusers_file = \"directory\"", "Is a directory"),
        ("[upstream]\nproxy = \"ftp://jane:hunter2@proxy\"", "upstream.proxy"),
        ("[upstream]\nno_proxy = [\"http://jane:hunter2@proxy\"]", "(hidden)@proxy"),
        ("\"a\\u001b[31m\\u202e\\n\" = 1", "a\\u001b[31m\\u202e\\n: unknown key"),
        ("not TOML", "this is not TOML"),
    ] {
        place.put("seawall.toml", config);
        let [shown, served] = [["config", "show"].as_slice(), &["serve"]].map(|command| place.run(command, &[]));
        assert_eq!((shown.status.code(), text(&shown.stdout)), (Some(2), String::new()), "{config}");
        let wrong = text(&shown.stderr);
        assert!(wrong.contains(said) && !wrong.contains("hunter2") && !wrong.contains('\u{1b}'), "{wrong}");
        assert_eq!((shown.status.code(), shown.stderr), (served.status.code(), served.stderr));
    }
}

/// Nothing that stands in a value, a key, a name of a file or a variable moves a terminal's cursor,
/// or looks like another line.
#[test]
fn hostile_text_is_escaped() {
    let hostile = "a\u{1b}[31m\u{202e}\nlisten = 1\u{e0041}";
    let toml = "a\\u001b[31m\\u202e\\nlisten = 1\\U000e0041";
    let place = Place::new(&format!(
        "data = \"{toml}\"\n[[registry]]\nname = \"lab\"\nusername = \"é\"\ndocker_config = \"\"\npassword_file = \"{toml}\"\n"
    ));
    place.put(hostile, "password");
    place.put(&format!("{hostile}.toml"), &std::fs::read_to_string(place.path().join("seawall.toml")).unwrap());
    let file = format!("{hostile}.toml");
    let words = ["-c", file.as_str()];
    let shown = place.show(&words, &[]);
    assert!(shown.starts_with("# a\\u001b[31m\\u202e\\nlisten = 1\\udb40\\udc41.toml, variables"), "{shown}");
    assert!(shown.contains(&format!("data           = \"{toml}\"  # a\\u001b")), "{shown}");
    assert_eq!(place.json(&words, &[])["keys"]["data"]["value"], hostile);
    for shown in [shown, place.show(&[&words[..], &["--json"]].concat(), &[])] {
        let bad = |c: char| c != '\n' && c.is_control() || ['\u{202e}', '\u{e0041}'].contains(&c);
        assert!(!shown.contains(bad) && !shown.contains("\nlisten = 1"), "{shown}");
    }
}
