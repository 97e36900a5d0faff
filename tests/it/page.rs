//! The operator's pages, as a browser without scripts uses them.

use http::Method;

use crate::flight::until;
use crate::harness::exchange::Reply;
use crate::harness::*;

struct Browser {
    client: Client,
    base: String,
    cookie: String,
}

impl Browser {
    fn of(seawall: &Seawall) -> Browser {
        let base = format!("http://{}", seawall.admin());
        Browser { client: Client::plain(seawall.admin()), base, cookie: String::new() }
    }

    async fn get(&self, path: &str, fields: &[(&str, &str)]) -> (u16, String) {
        let url = format!("{}{path}", self.base);
        let ask = self.client.get(&url).header("cookie", &self.cookie);
        let reply = fields.iter().fold(ask, |ask, (name, value)| ask.header(name, value)).send().await.unwrap();
        (reply.status.into(), String::from_utf8(reply.bytes().to_vec()).unwrap())
    }

    async fn post(&self, path: &str, form: &str, fields: &[(&str, &str)]) -> Reply {
        let url = format!("{}{path}", self.base);
        let ask = self.client.request(Method::POST, &url).body(form.to_owned()).header("cookie", &self.cookie);
        let ask = ask.header("content-type", "application/x-www-form-urlencoded");
        fields.iter().fold(ask, |ask, (name, value)| ask.header(name, value)).send().await.unwrap()
    }

    async fn sign_in(&mut self, seawall: &Seawall) {
        let token = std::fs::read_to_string(seawall.data.join("admin.token")).unwrap();
        let form = format!("token={}", token.trim());
        let origin = self.base.clone();
        let reply = self.post("/ui/login", &form, &[("origin", &origin)]).await;
        let cookie = reply.header("set-cookie").to_owned();
        assert!(reply.status == 303 && reply.header("location") == "/", "{:?}", reply.headers);
        assert!(cookie.contains("HttpOnly") && cookie.contains("SameSite=Strict"), "{cookie}");
        self.cookie = cookie.split(';').next().unwrap().to_owned();
    }

    /// What stands in the forms of a page.
    async fn form(&self) -> String {
        let (_, page) = self.get("/live", &[]).await;
        let (_, rest) = page.split_once("name=\"form\" value=\"").unwrap_or_else(|| panic!("{page}"));
        rest.split('"').next().unwrap().to_owned()
    }
}

const PAGES: [&str; 3] = ["/", "/live", "/upstreams"];

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn pages_are_whole_and_load_nothing_from_elsewhere() {
    let seawall = Seawall::alone().start(&Pki::new()).await;
    let browser = Browser::of(&seawall);
    for path in PAGES.into_iter().chain(["/login"]) {
        let reply = browser.client.get(&format!("{}{path}", browser.base)).send().await.unwrap();
        let page = String::from_utf8(reply.bytes().to_vec()).unwrap();
        assert_eq!((reply.status.as_u16(), reply.header("content-type")), (200, "text/html; charset=utf-8"), "{path}");
        assert!(reply.header("content-security-policy").starts_with("default-src 'self'"), "{path}");
        assert!(page.starts_with("<!doctype html>") && page.trim_end().ends_with("</html>"), "{path}: {page}");
        let elsewhere = ["=\"http", "='http", "=\"//", "url(", "style="];
        assert!(!elsewhere.iter().any(|word| page.contains(word)), "{path}: {page}");
        assert!(page.len() < 16 << 10, "{path}: {} bytes", page.len());
        for asset in page.split(['"', '\'']).filter(|word| word.starts_with("/ui/") && word.contains('.')) {
            assert_eq!(browser.get(asset, &[]).await.0, 200, "{asset}");
        }
        if path != "/login" {
            assert!(page.contains("aria-current=\"page\""), "{path}");
        }
    }
    let (_, page) = browser.get("/", &[]).await;
    assert!(page.contains("<span>Pulls work.</span>") && page.contains("of 20.0 GiB, 0 blobs"), "{page}");
}

/// Who comes by a proxy signs in; without a session nothing is changed, nor by a page of elsewhere.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_session_is_needed_to_change_and_from_beyond_to_look() {
    let seawall = Seawall::alone().start(&Pki::new()).await;
    let mut browser = Browser::of(&seawall);
    let beyond = [("x-forwarded-for", "10.0.0.7")];
    for path in PAGES {
        assert_eq!(browser.get(path, &beyond).await.0, 303, "{path}");
    }
    let own = browser.base.clone();
    let own = ("origin", own.as_str());
    let wrong = browser.post("/ui/login", "token=of-somebody-else-altogether", &[own]).await;
    assert_eq!((wrong.status.as_u16(), wrong.header("location")), (303, "/login?said=wrong"));
    assert!(browser.get("/login?said=wrong", &[]).await.1.contains("This is not the token."));
    assert_eq!(browser.post("/ui/login", "nothing", &[own]).await.status, 422);
    browser.sign_in(&seawall).await;
    for path in PAGES {
        assert_eq!(browser.get(path, &beyond).await.0, 200, "{path}");
    }
    let form = format!("form={}", browser.form().await);
    for (said, fields) in [
        ("nothing=1", vec![own]),
        ("form=AAAA", vec![own]),
        (&*form, vec![]),
        (&*form, vec![("origin", "http://evil.example")]),
        (&*form, vec![("sec-fetch-site", "cross-site")]),
        (&*form, vec![own, ("sec-fetch-site", "cross-site")]),
    ] {
        let reply = browser.post("/ui/verify", said, &fields).await;
        assert_eq!(reply.header("location"), "/login?said=over", "{said} {fields:?}");
    }
    assert_eq!(browser.post("/ui/verify", &form, &[("host", "evil.example"), own]).await.status, 421);
    let (_, jobs) = browser.get("/api/v1/jobs", &[]).await;
    assert!(jobs.contains("\"jobs\": []"), "nothing was done: {jobs}");
    for fields in [vec![own], vec![("sec-fetch-site", "same-origin")]] {
        let reply = browser.post("/ui/verify", &form, &fields).await;
        assert_eq!(reply.header("location"), "/live?said=begun", "{fields:?}");
    }
    let (_, page) = browser.get("/live?said=begun", &[]).await;
    assert!(page.contains("Everything on disk is being hashed."), "{page}");
    let out = browser.post("/ui/logout", &form, &[own]).await;
    assert!(out.header("set-cookie").contains("Max-Age=0"), "{:?}", out.headers);
    let stale = std::mem::replace(&mut browser.cookie, "seawall=1796146098.AAAA.AAAA".to_owned());
    assert_eq!(browser.get("/", &beyond).await.0, 303, "a session that nobody began");
    browser.cookie = stale;
    seawall.clock.advance(std::time::Duration::from_secs(13 * 3600));
    assert_eq!(browser.get("/", &beyond).await.0, 303, "it is over");
}

/// What others choose stands on the pages as text: a host's words, a source's name, what was searched for.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_that_others_wrote_is_markup() {
    const HOSTILE: &str = "<img src=x onerror=alert(1)>\"'&amp;\u{202e}";
    let pki = Pki::new();
    let registry = Registry::new("registry-1.docker.io").image("library/alpine:3.20", Image::two_platforms());
    let registry = registry.quota(100).start(&pki).await;
    let hostile = "203.0.113.7<img src=x onerror=alert(1)>";
    registry.fault(Fault::on("manifests").set("docker-ratelimit-source", hostile));
    let seawall = Seawall::before(&registry).start(&pki).await;
    seawall.client().pull("docker.io/library/alpine:3.20", Style::Docker).await.unwrap();
    until("it is booked", || seawall.metric("seawall_pulls_charged_total") > 0.0).await;
    let browser = Browser::of(&seawall);
    let query: String = url_encoded(HOSTILE);
    for path in
        PAGES.map(str::to_owned).into_iter().chain([format!("/login?said={query}"), format!("/live?said={query}")])
    {
        let (status, page) = browser.get(&path, &[]).await;
        assert_eq!(status, 200, "{path}");
        assert!(!page.contains("<img") && !page.contains("onerror=alert(1)>"), "{path}: {page}");
    }
    let (_, page) = browser.get("/upstreams", &[]).await;
    assert!(page.contains("&#60;img") || page.contains("&lt;img") || !page.contains("onerror"), "{page}");
}

fn url_encoded(text: &str) -> String {
    text.bytes().map(|byte| format!("%{byte:02X}")).collect()
}
