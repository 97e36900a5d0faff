//! A question carried through its redirects. The credential stays behind when the origin changes,
//! for good.

use std::sync::Arc;

use http::{HeaderValue, StatusCode, header};

use super::answer::{Address, Answer, Via};
use super::client::{Client, wants_another_protocol};
use super::question::{Question, What};
use super::request::{About, Author, Debit, Wire, build, with_via};
use crate::error::{Error, Kind, Result};
use crate::http::origin::Origin;
use crate::ledger::Identity;
use crate::policy::redirect::{self, Refused};
use crate::policy::registry::Site;
use crate::policy::sound::{self, Nonsense};

/// The first response that is no redirect.
///
/// # Errors
/// No response came, a redirect is not to be followed, or a success is no answer to the question.
pub(super) async fn follow(
    client: &Arc<Client>,
    question: &Question<'_>,
    authorization: Option<HeaderValue>,
) -> Result<Answer> {
    let Question { site, repository, known_as, what, method, fields, author, requester, charged, is_beside } =
        *question;
    let (mut origin, mut target) = (site.origin.clone(), what.path(repository));
    let mut credential = authorization;
    let debit = Some(Debit { site, repository: known_as, charged }).filter(|_| !is_beside);
    let about = About::new(&site.registry.name, what.kind(), &requester.cost);
    // What a client shows may be why it fails.
    let author = if matches!(charged, Identity::Client(_)) { Author::Client } else { author };
    let mut about = About { debit, author, wire: what.wire(), is_beside, ..about };
    for hop in 0.. {
        let request = || {
            build(method, &origin, &target, fields, credential.as_ref())
                .map(|new| with_via(new, requester.via.as_ref()))
        };
        let mut answer = match client.send(about, request()?).await {
            Err(error) if about.wire == Wire::H1 && wants_another_protocol(&error) => {
                about.wire = Wire::Any;
                client.send(about, request()?).await?
            }
            other => other?,
        };
        if !is_redirect(answer.status()) {
            if origin != site.origin {
                answer.via = Via::Redirect;
            }
            let names = sound::judge(answer.status(), answer.headers(), question.what.sought())
                .map_err(|nonsense| unsound(&origin, what, nonsense))?;
            return Ok(Answer { paid_by: charged, names, address: Some(Address { origin, target }), ..answer });
        }
        let location = answer.headers().get(header::LOCATION).map(HeaderValue::as_bytes);
        let next = redirect::next((&origin, &target), location, hop, &site.registry.redirects)
            .map_err(|refused| not_followed(&origin, site, refused))?;
        if next.origin != origin {
            credential = None;
            (about.debit, about.author) = (None, Author::Seawall);
            about.wire = what.wire();
        }
        (origin, target) = (next.origin, next.target);
    }
    Err(Error::new(Kind::Broken, "too many redirects"))
}

fn not_followed(origin: &Origin, site: &Site, refused: Refused) -> Error {
    let advice = match refused {
        Refused::Downgrade => {
            format!(": if its storage is to be reached so, name it in `redirects` of {}", site.registry.name)
        }
        Refused::Location | Refused::TooMany => String::new(),
    };
    Error::new(Kind::Broken, format!("{} sent {refused}{advice}", origin.host))
}

/// The error of a success that is no answer: it counts as none.
fn unsound(origin: &Origin, what: &What, nonsense: Nonsense) -> Error {
    let message =
        format!("{} answered {nonsense} where {} was asked for: {}", origin.host, what.noun(), nonsense.hint());
    Error::new(Kind::Broken, message)
}

fn is_redirect(status: StatusCode) -> bool {
    matches!(status.as_u16(), 301 | 302 | 303 | 307 | 308)
}
