use proptest::prelude::*;

use super::*;

const D: &str = "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";

fn get(path: &str) -> Result<Route, RouteError> {
    route(&Method::GET, path, None)
}

fn manifest(name: &str, tag: &str) -> Route {
    Route::Manifest { repository: name.parse().unwrap(), reference: Reference::Tag(tag.parse().unwrap()) }
}

fn repository(name: &str) -> Repository {
    name.parse().unwrap()
}

#[test]
fn pulls() {
    assert_eq!(get("/v2/library/alpine/manifests/3.20"), Ok(manifest("library/alpine", "3.20")));
    let by_digest = Route::Manifest { repository: repository("a"), reference: Reference::Digest(D.parse().unwrap()) };
    assert_eq!(get(&format!("/v2/a/manifests/{D}")), Ok(by_digest));
    let blob = Route::Blob { repository: repository("a/b"), digest: D.parse().unwrap() };
    assert_eq!(route(&Method::HEAD, &format!("/v2/a/b/blobs/{D}"), Some("ns=docker.io")), Ok(blob));
}

#[test]
fn a_colon_may_be_encoded() {
    let hex = "a".repeat(64);
    for colon in ["%3A", "%3a"] {
        for kind in ["manifests", "blobs"] {
            assert_eq!(
                get(&format!("/v2/a/b/{kind}/sha256{colon}{hex}")),
                get(&format!("/v2/a/b/{kind}/sha256:{hex}"))
            );
        }
    }
    let many = format!("/v2/a/manifests/{}", "%3A".repeat(20_000));
    assert!(get(&many).is_err());
    for path in ["/v2/a%2Fb/manifests/1", "/v2/a/manifests/%6d", "/v2/a/manifests/sha256%3A%61"] {
        assert!(get(path).is_err(), "{path}");
    }
}

#[test]
fn names_may_contain_the_words_of_the_path() {
    for name in ["manifests", "blobs", "tags/list", "a/manifests/b", "a/blobs/uploads", "v2", "referrers/x"] {
        assert_eq!(get(&format!("/v2/{name}/manifests/latest")), Ok(manifest(name, "latest")));
        assert_eq!(get(&format!("/v2/{name}/tags/list")), Ok(Route::Tags { repository: repository(name) }));
        let upload = route(&Method::POST, &format!("/v2/{name}/blobs/uploads/"), None);
        assert_eq!(upload, Ok(Route::Upload { repository: repository(name) }));
    }
    assert_eq!(get("/v2/a/manifests/manifests"), Ok(manifest("a", "manifests")));
}

#[test]
fn bad_pulls_are_refused_with_the_code_for_it() {
    let long = format!("/v2/{}/manifests/x", "a".repeat(256));
    for (path, code) in [
        ("/v2/Alpine/manifests/x", Code::NameInvalid),
        ("/v2//manifests/x", Code::NameInvalid),
        ("/v2/a//b/manifests/x", Code::NameInvalid),
        ("/v2//a/manifests/x", Code::NameInvalid),
        ("//v2/a/manifests/x", Code::NameInvalid),
        ("/v2/a/../b/manifests/x", Code::NameInvalid),
        ("/v2/a/./manifests/x", Code::NameInvalid),
        ("/x/../v2/a/manifests/x", Code::NameInvalid),
        ("/v2/a/manifests/x/", Code::NameInvalid),
        ("/v2/a/manifests/x/.", Code::NameInvalid),
        ("/v2/a/manifests/..", Code::NameInvalid),
        ("/v2/a/manifests/", Code::NameInvalid),
        ("/v2/a%2fb/manifests/x", Code::NameInvalid),
        ("/v2/a/%6Danifests/x", Code::NameInvalid),
        ("/v2/a/manifests%2Fx", Code::NameInvalid),
        ("/%76%32/a/manifests/x", Code::NameInvalid),
        ("/v2/a/manifests/sha256%3A00", Code::DigestInvalid),
        ("/v2/a/blobs/%", Code::DigestInvalid),
        ("/v2/a:5000/b/manifests/x", Code::NameInvalid),
        (long.as_str(), Code::NameInvalid),
        ("/v2/a/blobs/x", Code::DigestInvalid),
        ("/v2/a/blobs/sha256:00", Code::DigestInvalid),
        ("/v2/a/manifests/sha256:00", Code::DigestInvalid),
        ("/v2/a/manifests/-x", Code::ManifestUnknown),
        ("/v2/a/manifests/x+y", Code::ManifestUnknown),
    ] {
        assert_eq!(get(path).map_err(|e| e.code()), Err(code), "{path}");
    }
}

#[test]
fn what_passes_through() {
    let repository = || repository("a/b");
    let tag = |t: &str| t.parse::<Tag>().unwrap();
    for (method, path, query, expected) in [
        ("GET", "/v2/", None, Route::Ping),
        ("HEAD", "/v2", None, Route::Ping),
        ("POST", "/v2/", None, Route::Other),
        ("GET", "/v2/_catalog", Some("n=2"), Route::Catalog),
        ("GET", "/", None, Route::Other),
        ("GET", "/v1/a/manifests/x", None, Route::Other),
        ("GET", "/token", Some("scope=x"), Route::Other),
        ("GET", "/v2/manifests/x", None, Route::Other),
        ("GET", "/v2/a/blobs/blake3:00", None, Route::Other),
        ("GET", "/v2/a/manifests/blake3:00", None, Route::Other),
        ("POST", "/v2/a/manifests/x", None, Route::Other),
        ("GET", "/v2/A/tags/list", None, Route::Other),
        ("DELETE", "/v2/a/tags/list", None, Route::Other),
        ("GET", "/v2/a/b/tags/list", None, Route::Tags { repository: repository() }),
        ("GET", "/v2/a/b/referrers/sha256:00", None, Route::Referrers { repository: repository() }),
        ("POST", "/v2/a/b/blobs/uploads/", Some("mount=x&from=y"), Route::Upload { repository: repository() }),
        ("POST", "/v2/a/b/blobs/uploads", None, Route::Upload { repository: repository() }),
        ("GET", "/v2/a/b/blobs/uploads/4b1-%2F=", Some("_state=z"), Route::Upload { repository: repository() }),
        ("PUT", "/v2/a/b/blobs/uploads/4b1", Some("digest=x"), Route::Upload { repository: repository() }),
        ("DELETE", "/v2/a/b/blobs/x", None, Route::Other),
        ("PUT", "/v2/A/manifests/x", None, Route::Other),
        (
            "PUT",
            "/v2/a/b/manifests/x",
            Some("tag=y&tag=v1%2E0&tag=%20&other=z&tag"),
            Route::PushManifest {
                repository: repository(),
                reference: Reference::Tag(tag("x")),
                tags: vec![tag("y"), tag("v1.0")],
            },
        ),
    ] {
        let method = method.parse().unwrap();
        assert_eq!(route(&method, path, query), Ok(expected), "{method} {path}");
    }
    let delete = route(&Method::DELETE, "/v2/a/b/manifests/x", None);
    assert_eq!(delete, Ok(Route::DeleteManifest { repository: repository(), reference: Reference::Tag(tag("x")) }));
    let delete = route(&Method::DELETE, &format!("/v2/a/b/blobs/{D}"), None);
    assert_eq!(delete, Ok(Route::DeleteBlob { repository: repository(), digest: D.parse().unwrap() }));
}

#[test]
fn errors_are_short() {
    let error = get(&format!("/v2/a/manifests/{}", "é".repeat(9000))).unwrap_err();
    assert!(error.to_string().len() < 1000);
}

proptest! {
    #[test]
    fn any_path(path in "(/v2/)?([a-z./%:-]|[.]{2}|%2[eEfF]|manifests|blobs|uploads|tags/list|.){0,20}", query: Option<String>) {
        for method in [Method::GET, Method::PUT, Method::POST, Method::DELETE] {
            if let Ok(Route::Manifest { repository, reference }) = route(&method, &path, query.as_deref()) {
                // What seawall read is all there was to read.
                prop_assert_eq!(format!("/v2/{repository}/manifests/{reference}"), path.clone());
            }
        }
    }

    #[test]
    fn every_pull(name in "[a-z0-9]{1,4}(/(manifests|blobs|tags|list|uploads|[a-z]{1,3})){0,4}", tag in "[a-zA-Z0-9_][a-zA-Z0-9._-]{0,20}") {
        prop_assert_eq!(get(&format!("/v2/{name}/manifests/{tag}")), Ok(manifest(&name, &tag)));
    }
}
