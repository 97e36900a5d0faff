//! The operator's listener: health, readiness, metrics, the API. It is never on the port that
//! clients reach.

mod callers;
mod door;
mod images;
mod jobs;
mod page;
mod ratelimits;
mod reply;
mod serving;
mod statistics;

use std::future::Future;
use std::sync::{Arc, OnceLock};

use axum::Router;
use axum::extract::{FromRef, State};
use axum::middleware;
use axum::response::Response;
use axum::routing::{delete, get, post};
use http::StatusCode;
use parking_lot::Mutex;

use crate::clock::Clock;
use crate::http::origin::Host;
use crate::ledger::Ledger;
use crate::metrics::{CONTENT_TYPE, Metrics};
use crate::operate::jobs::Jobs;
use crate::operate::status::Sources;
use crate::policy::quota::Figures;
use crate::task::Tasks;

use door::Door;
pub use door::Keys;
pub use images::Images;
use jobs::Desk;
use page::Pages;
use reply::{json, starting, text, typed};

const INDEX: &str = "\
seawall's admin listener

/healthz  200 while the process is alive
/readyz   200 while pulls are served, 503 while it starts or drains
/metrics  Prometheus (OpenMetrics text)

/api/v1/status      JSON: what is wrong, in sentences, and the figures behind them
/api/v1/images      JSON: tags that are known, what they name, what of it is here
/api/v1/ratelimits  JSON: quotas, pulls charged and spared, what stands
/api/v1/statistics  JSON: what was counted, by the minute (?span=24h) or by the hour (?span=30d)
/api/v1/top         JSON: repositories and clients with the most pulls
/api/v1/jobs        JSON: work that was asked for, and what came of it

Changes need the token: POST /api/v1/verify, DELETE /api/v1/jobs/ID
";

/// Whether pulls are served.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stage {
    /// Something is being loaded; pulls are not served yet.
    Starting,
    /// Pulls are served.
    Serving,
    /// Requests that run are finished, none is begun.
    Draining,
}

impl Stage {
    /// As `/readyz` says it.
    pub fn as_str(self) -> &'static str {
        match self {
            Stage::Starting => "starting",
            Stage::Serving => "ready",
            Stage::Draining => "draining",
        }
    }
}

/// The stage, shared: clones see what any of them sets.
#[derive(Clone, Debug)]
pub struct Ready(Arc<Mutex<Stage>>);

impl Ready {
    /// A stage of [`Stage::Starting`].
    pub fn new() -> Ready {
        Ready(Arc::new(Mutex::new(Stage::Starting)))
    }

    /// Sets the stage.
    pub fn set(&self, stage: Stage) {
        *self.0.lock() = stage;
    }

    /// The current stage.
    pub fn stage(&self) -> Stage {
        *self.0.lock()
    }
}

impl Default for Ready {
    fn default() -> Ready {
        Ready::new()
    }
}

/// What the admin listener shows.
#[derive(Clone, Debug)]
pub struct Admin {
    /// For `/metrics`.
    pub metrics: Metrics,
    /// For `/readyz`.
    pub ready: Ready,
    /// For `/api/v1/ratelimits`.
    pub ledger: Ledger,
    /// For `/api/v1/images`.
    pub images: Images,
    /// For `/api/v1/status`, once it serves.
    pub status: Arc<OnceLock<Sources>>,
    /// The clock that ages are told by.
    pub clock: Clock,
    /// Names that it may be called by, besides addresses and `localhost`.
    pub hosts: Vec<Host>,
    /// Work that was asked for here.
    pub jobs: Jobs,
    /// Runs it.
    pub tasks: Tasks,
    /// What opens it.
    pub keys: Keys,
}

impl FromRef<Admin> for Images {
    fn from_ref(admin: &Admin) -> Images {
        admin.images.clone()
    }
}

impl FromRef<Admin> for Pages {
    fn from_ref(admin: &Admin) -> Pages {
        let door = Door { keys: admin.keys.clone(), clock: admin.clock.clone() };
        Pages { desk: Desk::from_ref(admin), ledger: admin.ledger.clone(), door }
    }
}

impl FromRef<Admin> for Desk {
    fn from_ref(admin: &Admin) -> Desk {
        let Admin { status, jobs, tasks, clock, .. } = admin;
        Desk { sources: status.clone(), jobs: jobs.clone(), tasks: tasks.clone(), clock: clock.clone() }
    }
}

impl FromRef<Admin> for Arc<OnceLock<Sources>> {
    fn from_ref(admin: &Admin) -> Arc<OnceLock<Sources>> {
        admin.status.clone()
    }
}

/// Answers on `listener` until `stop` resolves. A drain should end first: while it lasts, `/readyz`
/// says so.
pub async fn serve(listener: tokio::net::TcpListener, admin: Admin, stop: impl Future<Output = ()>) {
    let door = Door { keys: admin.keys.clone(), clock: admin.clock.clone() };
    serving::serve(listener, router(admin, &door), door, stop).await;
}

fn router(admin: Admin, door: &Door) -> Router {
    let hosts: Arc<[Host]> = admin.hosts.clone().into();
    let named =
        |routes: Router<Admin>| routes.route_layer(middleware::from_fn_with_state(hosts.clone(), callers::known));
    let shown = Router::new()
        .route("/api", get(async || text(StatusCode::OK, INDEX)))
        .route("/api/v1/status", get(status))
        .route("/api/v1/ratelimits", get(ratelimits))
        .route("/api/v1/jobs", get(jobs::listed))
        .route("/api/v1/jobs/{id}", get(jobs::one))
        .route("/api/v1/statistics", get(statistics::points))
        .route("/api/v1/top", get(statistics::top))
        .route("/api/v1/images", get(images::listed).post(images::looked_up))
        .route_layer(middleware::from_fn_with_state(door.clone(), door::look));
    let changes = changes().route_layer(middleware::from_fn_with_state(door.clone(), door::change));
    Router::new()
        .route("/healthz", get(async || text(StatusCode::OK, "ok\n")))
        .route("/readyz", get(readyz))
        .route("/metrics", get(metrics))
        .merge(named(shown))
        .merge(named(changes))
        .merge(named(page::router(door)))
        .fallback(async || text(StatusCode::NOT_FOUND, "there is nothing here; /api lists what there is\n"))
        .with_state(admin)
}

/// What changes something.
fn changes() -> Router<Admin> {
    Router::new().route("/api/v1/verify", post(jobs::verify)).route("/api/v1/jobs/{id}", delete(jobs::ended))
}

async fn readyz(State(admin): State<Admin>) -> Response {
    let stage = admin.ready.stage();
    let status = if stage == Stage::Serving { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    text(status, format!("{}\n", stage.as_str()))
}

async fn metrics(State(admin): State<Admin>) -> Response {
    show_quotas(&admin);
    typed(StatusCode::OK, CONTENT_TYPE, admin.metrics.encode())
}

/// The gauges of quotas are what the ledger holds true now: a restart loses none, and none outlives
/// its window.
fn show_quotas(admin: &Admin) {
    let (now, metrics) = (admin.clock.now(), &admin.metrics);
    let mut current = admin.ledger.report(now).quotas;
    current.retain(|(_, figures)| figures.hold(now));
    // Mirrors of a registry may name one source: the last word is shown.
    current.sort_by_key(|(_, figures)| figures.at);
    metrics.keep_rate_limits(current.iter().map(|(account, _)| (&*account.owner.registry, account.label())));
    for (account, Figures { limit, remaining, window, .. }) in &current {
        metrics.rate_limit(&account.owner.registry, account.label(), *limit, *remaining, *window);
    }
}

async fn status(State(admin): State<Admin>) -> Response {
    match admin.status.get() {
        Some(sources) => json(StatusCode::OK, &serde_json::json!(sources.status())),
        None => starting(),
    }
}

async fn ratelimits(State(admin): State<Admin>) -> Response {
    let now = admin.clock.now();
    json(StatusCode::OK, &ratelimits::json(&admin.ledger.report(now), now))
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use std::net::SocketAddr;

    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    use tokio::net::{TcpListener, TcpStream};
    use tokio_util::sync::CancellationToken;

    use super::*;

    struct Running {
        address: SocketAddr,
        admin: Admin,
        stop: CancellationToken,
        done: tokio::task::JoinHandle<()>,
    }

    async fn start() -> Running {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let admin = Admin {
            metrics: Metrics::new(),
            ready: Ready::new(),
            ledger: Ledger::default(),
            images: Images::default(),
            status: Arc::default(),
            clock: Clock::system(),
            hosts: Vec::new(),
            keys: Keys::default(),
            jobs: Jobs::default(),
            tasks: Tasks::new(),
        };
        let stop = CancellationToken::new();
        let serving = serve(listener, admin.clone(), stop.clone().cancelled_owned());
        let done = crate::task::Tasks::new().spawn(serving);
        Running { address, admin, stop, done }
    }

    /// A page of anywhere that makes a browser ask here reads nothing.
    #[tokio::test]
    async fn what_is_asked_by_another_name_is_not_shown() {
        let running = start().await;
        for (path, status) in [
            ("/", 421),
            ("/login", 421),
            ("/ui/style.css", 421),
            ("/api/v1/images", 421),
            ("/api/v1/ratelimits", 421),
            ("/metrics", 200),
            ("/healthz", 200),
        ] {
            let (line, ..) = ask_as("rebound.example:3129", running.address, "GET", path).await;
            assert!(line.starts_with(&format!("HTTP/1.1 {status} ")), "{path}: {line}");
        }
        assert!(
            ask(running.address, "GET", "http://rebound.example/api/v1/images").await.0.starts_with("HTTP/1.1 421 ")
        );
    }

    async fn ask(address: SocketAddr, method: &str, path: &str) -> (String, String, String) {
        ask_as("localhost", address, method, path).await
    }

    /// Status line, head, body.
    async fn ask_as(host: &str, address: SocketAddr, method: &str, path: &str) -> (String, String, String) {
        let mut stream = TcpStream::connect(address).await.unwrap();
        let request = format!("{method} {path} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n");
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut reply = String::new();
        stream.read_to_string(&mut reply).await.unwrap();
        let (head, body) = reply.split_once("\r\n\r\n").unwrap();
        let (status, head) = head.split_once("\r\n").unwrap();
        (status.to_owned(), head.to_lowercase(), body.to_owned())
    }

    /// A probe that is not answered ends the process.
    #[tokio::test]
    async fn who_opens_many_connections_is_in_no_probes_way() {
        let running = start().await;
        let mut held = Vec::new();
        for _ in 0..200 {
            let socket = tokio::net::TcpSocket::new_v4().unwrap();
            socket.bind("127.0.0.2:0".parse().unwrap()).unwrap();
            let mut stream = socket.connect(running.address).await.unwrap();
            stream.write_all(b"GET / HTTP/1.1\r\n").await.unwrap();
            held.push(stream);
        }
        let asked = ask(running.address, "GET", "/healthz");
        let asked = tokio::time::timeout(Duration::from_secs(5), asked).await;
        assert_eq!(asked.expect("it waits for nobody").0, "HTTP/1.1 200 OK");
    }

    #[tokio::test]
    async fn it_is_alive_before_it_is_ready() {
        let running = start().await;
        let status = async |path| {
            let (status, _, body) = ask(running.address, "GET", path).await;
            (status, body)
        };
        let said = |status: &str, body: &str| (format!("HTTP/1.1 {status}"), format!("{body}\n"));
        assert_eq!(status("/healthz").await, said("200 OK", "ok"));
        assert_eq!(status("/readyz").await, said("503 Service Unavailable", "starting"));
        running.admin.ready.set(Stage::Serving);
        assert_eq!(status("/readyz").await, said("200 OK", "ready"));
        running.admin.ready.set(Stage::Draining);
        assert_eq!(status("/readyz").await, said("503 Service Unavailable", "draining"));
        assert_eq!(status("/healthz").await, said("200 OK", "ok"));
        assert_eq!(status("/nothing").await.0, "HTTP/1.1 404 Not Found");
        assert!(status("/api").await.1.contains("/metrics"));
    }

    #[tokio::test]
    async fn metrics_are_openmetrics_and_end() {
        let running = start().await;
        running.admin.metrics.request("docker.io", "blob", "hit");
        let (status, head, body) = ask(running.address, "GET", "/metrics").await;
        assert_eq!(status, "HTTP/1.1 200 OK");
        assert!(head.contains("content-type: application/openmetrics-text; version=1.0.0; charset=utf-8"), "{head}");
        assert!(body.contains(r#"seawall_requests_total{registry="docker.io",kind="blob",outcome="hit"} 1"#), "{body}");
        assert!(body.ends_with("# EOF\n"));
    }

    /// RFC 9110 9.3.2: the same head, without the body.
    #[tokio::test]
    async fn head_is_get_without_a_body() {
        let running = start().await;
        for path in ["/api", "/healthz", "/readyz", "/metrics", "/api/v1/ratelimits"] {
            let dateless = |head: String| {
                let mut lines: Vec<_> = head.lines().filter(|l| !l.starts_with("date:")).map(str::to_owned).collect();
                lines.sort();
                lines
            };
            let (status, head, body) = ask(running.address, "GET", path).await;
            let (head_status, head_head, head_body) = ask(running.address, "HEAD", path).await;
            assert!(head.contains(&format!("content-length: {}", body.len())), "{path}: {head}");
            assert_eq!((head_status, dateless(head_head)), (status, dateless(head)), "{path}");
            assert_eq!(head_body, "", "{path}");
        }
        assert_eq!(ask(running.address, "POST", "/healthz").await.0, "HTTP/1.1 405 Method Not Allowed");
    }

    #[tokio::test]
    async fn it_stops_though_a_client_never_finishes() {
        let running = start().await;
        let mut slow = TcpStream::connect(running.address).await.unwrap();
        slow.write_all(b"GET /healthz HT").await.unwrap();
        // Answered after the slow one was accepted.
        ask(running.address, "GET", "/healthz").await;
        running.stop.cancel();
        tokio::time::timeout(Duration::from_secs(6), running.done).await.unwrap().unwrap();
    }

    /// Whose head never comes leaves its place.
    #[tokio::test(start_paused = true)]
    async fn a_head_that_never_comes_keeps_nobody_out() {
        let running = start().await;
        let mut slow = Vec::new();
        for _ in 0..64 {
            let mut stream = TcpStream::connect(running.address).await.unwrap();
            stream.write_all(b"GET /healthz HT").await.unwrap();
            slow.push(stream);
        }
        tokio::time::sleep(Duration::from_secs(11)).await;
        assert_eq!(ask(running.address, "GET", "/healthz").await.0, "HTTP/1.1 200 OK");
    }
}
