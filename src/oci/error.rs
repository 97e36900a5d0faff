//! Registry errors: the codes and the JSON of the distribution-spec ("Error Codes").

use std::borrow::Cow;

use bytes::Bytes;
use serde::{Deserialize, Serialize};

/// An error code that clients know.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Code {
    /// The blob is not there.
    BlobUnknown,
    /// An upload went wrong.
    BlobUploadInvalid,
    /// No such upload.
    BlobUploadUnknown,
    /// Not a digest, or not that of the bytes.
    DigestInvalid,
    /// A manifest lists a blob that is not there.
    ManifestBlobUnknown,
    /// Not a manifest.
    ManifestInvalid,
    /// The manifest is not there.
    ManifestUnknown,
    /// Not a repository's name.
    NameInvalid,
    /// The registry has no such repository.
    NameUnknown,
    /// The length is not the one that was said.
    SizeInvalid,
    /// Credentials are needed.
    Unauthorized,
    /// Credentials do not help.
    Denied,
    /// This cannot be done here.
    Unsupported,
    /// Too many requests.
    TooManyRequests,
    /// Try again later. Not in the specification, but in Docker's registry and known to its
    /// clients.
    Unavailable,
    /// Anything else. Not in the specification, but in Docker's registry and known to its clients.
    Unknown,
}

impl Code {
    /// As it is written in the body.
    pub fn as_str(self) -> &'static str {
        match self {
            Code::BlobUnknown => "BLOB_UNKNOWN",
            Code::BlobUploadInvalid => "BLOB_UPLOAD_INVALID",
            Code::BlobUploadUnknown => "BLOB_UPLOAD_UNKNOWN",
            Code::DigestInvalid => "DIGEST_INVALID",
            Code::ManifestBlobUnknown => "MANIFEST_BLOB_UNKNOWN",
            Code::ManifestInvalid => "MANIFEST_INVALID",
            Code::ManifestUnknown => "MANIFEST_UNKNOWN",
            Code::NameInvalid => "NAME_INVALID",
            Code::NameUnknown => "NAME_UNKNOWN",
            Code::SizeInvalid => "SIZE_INVALID",
            Code::Unauthorized => "UNAUTHORIZED",
            Code::Denied => "DENIED",
            Code::Unsupported => "UNSUPPORTED",
            Code::TooManyRequests => "TOOMANYREQUESTS",
            Code::Unavailable => "UNAVAILABLE",
            Code::Unknown => "UNKNOWN",
        }
    }
}

#[derive(Serialize)]
struct Body<'a> {
    errors: [Entry<'a>; 1],
}

#[derive(Serialize)]
struct Entry<'a> {
    code: &'static str,
    message: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    detail: Option<&'a str>,
}

/// The body of an error response, `application/json`. Clients print `message`; few print `detail`.
pub fn body(code: Code, message: &str, detail: Option<&str>) -> Bytes {
    let body = Body { errors: [Entry { code: code.as_str(), message, detail }] };
    serde_json::to_vec(&body).expect("strings are JSON").into()
}

/// The first code in the body of a registry's error, `TOOMANYREQUESTS` say, for the log and for
/// decisions.
///
/// `None` when the body is no such JSON (registries send HTML and plain text too), or the code is
/// longer than 64 bytes or not printable ASCII.
pub fn code_of(body: &[u8]) -> Option<String> {
    #[derive(Deserialize)]
    struct Body<'a> {
        #[serde(borrow)]
        errors: Vec<Entry<'a>>,
    }
    #[derive(Deserialize)]
    struct Entry<'a> {
        #[serde(borrow)]
        code: Cow<'a, str>,
    }
    let body: Body<'_> = serde_json::from_slice(body).ok()?;
    let code = body.errors.into_iter().next()?.code;
    let good = (1..=64).contains(&code.len()) && code.bytes().all(|b| b.is_ascii_graphic());
    good.then(|| code.into_owned())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn the_body_is_what_the_specification_says() {
        assert_eq!(
            body(Code::NameInvalid, "say \"alpine\"", None),
            r#"{"errors":[{"code":"NAME_INVALID","message":"say \"alpine\""}]}"#
        );
        assert_eq!(
            body(Code::TooManyRequests, "m", Some("d")),
            r#"{"errors":[{"code":"TOOMANYREQUESTS","message":"m","detail":"d"}]}"#
        );
    }

    #[test]
    fn codes_of_what_registries_send() {
        for (body, code) in [
            (r#"{"errors":[{"code":"TOOMANYREQUESTS","message":"You have reached …"}]}"#, Some("TOOMANYREQUESTS")),
            (r#"{"errors":[{"code":"404","message":"Not Found"}]}"#, Some("404")),
            (
                r#"{"errors":[{"code":"UNAUTHORIZED","message":"m","detail":[{"Type":"repository"}]},{"code":"X"}]}"#,
                Some("UNAUTHORIZED"),
            ),
            (r#"{"errors":[]}"#, None),
            (r#"{"errors":[{"message":"m"}]}"#, None),
            (r#"{"errors":[{"code":"a\nb"}]}"#, None),
            (r#"{"details":"incorrect username or password"}"#, None),
            ("Too Many Requests (HAP429).", None),
            ("", None),
        ] {
            assert_eq!(code_of(body.as_bytes()).as_deref(), code, "{body}");
        }
    }

    proptest! {
        #[test]
        fn any_bytes(bytes: Vec<u8>) {
            code_of(&bytes);
        }

        #[test]
        fn print_then_parse(message: String, detail: Option<String>) {
            let printed = body(Code::Denied, &message, detail.as_deref());
            prop_assert_eq!(code_of(&printed), Some("DENIED".to_owned()));
        }
    }
}
