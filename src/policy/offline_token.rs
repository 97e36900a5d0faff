//! Whether seawall answers a token request with a token of its own while the token service is
//! unreachable.
//!
//! Such a token is anonymous and reads what is public here, so it could answer anything. It does
//! not where a client would take it for something else: for a valid login, for permission to push,
//! for a private repository that is public. A token that lacks a part of what it was asked for is
//! no lie: "lack of permission" is none of the token service's errors (distribution-spec,
//! auth/token.md).

use crate::oci::name::Repository;
use crate::oci::token_request::{Scope, TokenRequest};

/// What the client presents. It cannot be verified now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shows {
    /// No credential.
    Nothing,
    /// A credential. It reads what is public, whether it is valid or not.
    Credential,
}

/// Who wrote the scopes that are asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Author {
    /// The client, for what it is about to do.
    Client,
    /// The registry, into its realm: nvcr.io wants `pull,push` of those who pull.
    Registry,
}

/// Whether an anonymous token of seawall's own may be issued.
pub fn may_stand_in(
    wanted: &TokenRequest,
    shows: Shows,
    author: Author,
    is_public: impl Fn(&Repository) -> bool,
) -> bool {
    let pulls = |scope: &Scope| match scope {
        Scope::Pull(_) | Scope::Whole => true,
        Scope::PullAndMore(_) => author == Author::Registry,
        Scope::Other => false,
    };
    let opens = |scope: &Scope| *scope == Scope::Whole || scope.repository().is_some_and(&is_public);
    if wanted.scopes.is_empty() {
        // docker login asks whether its credential is valid, which cannot be known now. To be
        // anonymous needs no proof.
        return shows == Shows::Nothing && wanted.is_sound;
    }
    wanted.scopes.iter().all(pulls) && wanted.scopes.iter().any(opens)
}

/// The challenge that a well-known registry sends to anonymous requests, used while its own is not
/// known.
pub fn well_known(registry: &str) -> Option<&'static str> {
    Some(match registry {
        "docker.io" => r#"Bearer realm="https://auth.docker.io/token",service="registry.docker.io""#,
        "ghcr.io" => r#"Bearer realm="https://ghcr.io/token",service="ghcr.io""#,
        "quay.io" => r#"Bearer realm="https://quay.io/v2/auth",service="quay.io""#,
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_matrix() {
        use Author::{Client, Registry};
        let public = |repository: &Repository| repository.as_str() == "open/a";
        // anonymous, with a credential
        for (query, author, expected) in [
            ("scope=repository:open/a:pull", Client, (true, true)),
            ("scope=repository:acme/b:pull", Client, (false, false)),
            ("scope=repository:open/a:pull&scope=repository:acme/b:pull", Client, (true, true)),
            ("scope=repository:open/a:pull,push", Client, (false, false)),
            ("scope=repository:open/a:pull,push", Registry, (true, true)),
            ("scope=repository:acme/b:pull,push", Registry, (false, false)),
            ("scope=repository:open/a:push", Registry, (false, false)),
            ("scope=repository:open/a:pull&scope=registry:catalog:*", Client, (false, false)),
            ("service=public.ecr.aws&scope=aws", Client, (true, true)),
            ("service=s", Client, (true, false)),
            ("service=s&private_token=x", Client, (false, false)),
            ("", Client, (false, false)),
        ] {
            let wanted = TokenRequest::of_query(query);
            let may = |shows| may_stand_in(&wanted, shows, author, public);
            assert_eq!((may(Shows::Nothing), may(Shows::Credential)), expected, "{query} {author:?}");
        }
    }
}
