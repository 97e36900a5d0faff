//! A method's number, then a path and perhaps a query.
#![no_main]

use http::Method;
use libfuzzer_sys::fuzz_target;
use seawall::oci::route::{self, Route};

const METHODS: [Method; 6] = [Method::GET, Method::HEAD, Method::PUT, Method::POST, Method::PATCH, Method::DELETE];

fuzz_target!(|input: (u8, &str)| {
    let (number, target) = input;
    let method = &METHODS[usize::from(number) % METHODS.len()];
    let (path, query) = target.split_once('?').map_or((target, None), |(path, query)| (path, Some(query)));
    // What was read of a path is all that is in it.
    match route::route(method, path, query) {
        Ok(Route::Manifest { repository, reference }) => {
            assert_eq!(path, format!("/v2/{repository}/manifests/{reference}"))
        }
        Ok(Route::Blob { repository, digest }) => assert_eq!(path, format!("/v2/{repository}/blobs/{digest}")),
        Ok(_) => {}
        Err(error) => {
            assert!(matches!(*method, Method::GET | Method::HEAD));
            assert!(error.to_string().len() < 2000);
        }
    }
});
