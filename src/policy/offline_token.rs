//! May a token of our own answer this, when nobody else does?
//!
//! Such a token stands for nobody and opens what everybody may read here, so it could answer anything. It does not where that would be
//! taken for something else: for a login that is good, for leave to push, for a private repository that is open. A token that lacks
//! a part of what it was asked for is no lie: "lack of permission" is none of the token service's errors (distribution-spec,
//! auth/token.md).

use crate::oci::name::Repository;
use crate::oci::token_request::{Scope, TokenRequest};

/// What the client shows of itself. It cannot be verified now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shows {
    /// Nothing.
    Nothing,
    /// A credential. What everybody may read it may read too, whether it is good or not.
    Credential,
}

/// Who wrote what is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Author {
    /// The client, for what it is about to do.
    Client,
    /// The registry, into its realm: nvcr.io wants `pull,push` of those who pull.
    Registry,
}

/// Whether a token that stands for nobody may be given.
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
        // "Am I somebody?" (docker login): nobody can say. "I am nobody" needs no proof.
        return shows == Shows::Nothing && wanted.is_sound;
    }
    wanted.scopes.iter().all(pulls) && wanted.scopes.iter().any(opens)
}

/// What a registry that everybody knows says to who shows nothing, for want of its own word.
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
        // nobody's, and that of somebody
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
