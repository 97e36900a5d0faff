//! Who a client is while upstream cannot say.

use super::check::Access;
use crate::oci::login::Login;
use crate::oci::token_request::basic;
use crate::policy::registry::Site;
use crate::upstream::requester::{Credential, Fingerprint, Requester};

impl Access {
    /// A login that is presented with a request itself, if logins are remembered.
    pub fn presented(&self, requester: &Requester) -> Option<(Fingerprint, Login)> {
        let Credential::Known(print) = requester.credential else { return None };
        let presented = requester.authorization.as_ref().filter(|_| self.logins().is_on())?;
        Some((print, basic(presented.as_bytes())?))
    }

    /// The registry refused the login that is presented to it with each request. (For one
    /// repository it may say 403, which ends what that login may read there.)
    pub fn login_refused(&self, site: &Site, requester: &Requester) {
        if let Some((print, login)) = self.presented(requester) {
            self.logins().forget_presented(print);
            self.logins().refused(&site.namespace, &login, None);
        }
    }
}
