//! Who a client is while upstream cannot say, and what that may open.

use std::sync::Arc;

use super::resolve::away;
use super::{Cache, Found, Pull};
use crate::access::{logins, secret};
use crate::error::Result;
use crate::oci::login::Login;
use crate::oci::name::{Repository, RepositoryKey};
use crate::oci::token_request::basic;
use crate::policy::registry::Site;
use crate::upstream::requester::{Credential, Fingerprint, Requester};

impl Cache {
    /// A login that is shown with the pull itself, if logins are remembered.
    pub(super) fn presented(&self, pull: &Pull) -> Option<(Fingerprint, Login)> {
        let Credential::Known(print) = pull.requester.credential else { return None };
        let shown = pull.requester.authorization.as_ref().filter(|_| self.logins().is_on())?;
        Some((print, basic(shown.as_bytes())?))
    }

    /// [`Cache::get`] for such a login. Upstream is asked first, whoever it is: only when it is away, or silent for as long as a
    /// question may take, is it looked up whether the login was good, and what it was let read then.
    pub(super) async fn get_by_login(&self, pull: &Pull, print: Fingerprint, login: &Login) -> Result<Found> {
        let namespace = &pull.site.namespace;
        self.logins().observe_login(namespace, login, print);
        let mut finding = Box::pin(self.find(pull));
        let first = tokio::time::timeout(self.0.upstream.resolve_deadline(), &mut finding).await.ok();
        match first {
            Some(Err(error)) if away(&error).is_some() => {
                if !self.logins().recognise(namespace, login, print).await {
                    return Err(error);
                }
            }
            Some(answered) => return answered,
            None => {
                if !self.logins().recognise(namespace, login, print).await {
                    return finding.await;
                }
            }
        }
        drop(finding);
        self.find(pull).await
    }

    /// Whether upstream's last word was that everybody may read this repository.
    pub fn is_public(&self, site: &Site, repository: &Repository) -> bool {
        let known = self.0.grants.known(&RepositoryKey::new(&site.namespace, repository), Credential::Anonymous, None);
        known.usable_while_away(self.0.grants.ttls(), self.0.clock.now())
    }

    /// Whether there is anything in a name space that upstream's last word opens to everybody, or to a login that is remembered.
    pub fn opens_some(&self, namespace: &str) -> bool {
        self.0.grants.opens_some(namespace) || self.logins().knows_some(namespace)
    }

    /// The registry says that the login which is shown to it with each request is none. (For one repository it may say 403, which
    /// ends what that login may read there.)
    pub fn login_refused(&self, site: &Site, requester: &Requester) {
        let (logins, Credential::Known(print)) = (self.logins(), requester.credential) else { return };
        let shown = requester.authorization.as_ref().filter(|_| logins.is_on());
        if let Some(login) = shown.and_then(|value| basic(value.as_bytes())) {
            logins.forget_shown(print);
            logins.refused(&site.namespace, &login, None);
        }
    }

    /// Logins that were good before upstream went away.
    pub fn logins(&self) -> &logins::Logins {
        self.0.grants.logins()
    }

    /// What this installation alone knows.
    pub fn secret(&self) -> &Arc<secret::Secret> {
        &self.0.secret
    }
}
