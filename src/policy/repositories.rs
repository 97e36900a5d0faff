//! Which repositories of a registry may be asked for, and which every client may read with the
//! operator's account.

use wildmatch::WildMatch;

use crate::oci::name::Repository;

/// What the operator says of a registry's repositories. Without one, all may be asked for and none
/// is shared.
#[derive(Clone, Debug, Default)]
pub struct Repositories {
    /// Globs of those that may be asked for. Empty: all.
    pub allow: Vec<WildMatch>,
    /// Globs of those that may not, whatever `allow` says.
    pub deny: Vec<WildMatch>,
    /// Globs of those that every client may read with the operator's account.
    pub share: Vec<WildMatch>,
}

impl Repositories {
    /// Whether `repository` may be asked for, in any way.
    pub fn permits(&self, repository: &Repository) -> bool {
        !any(&self.deny, repository) && (self.allow.is_empty() || any(&self.allow, repository))
    }

    /// Whether all repositories may be asked for: then what names none can be let through as well.
    pub fn permits_all(&self) -> bool {
        self.deny.is_empty() && (self.allow.is_empty() || self.allow.contains(&WildMatch::new("*")))
    }

    /// Whether every client may read `repository` with the operator's account.
    pub fn shares(&self, repository: &Repository) -> bool {
        any(&self.share, repository)
    }
}

fn any(globs: &[WildMatch], repository: &Repository) -> bool {
    globs.iter().any(|glob| glob.matches(repository.as_str()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn globs(patterns: &[&str]) -> Vec<WildMatch> {
        patterns.iter().map(|pattern| WildMatch::new(pattern)).collect()
    }

    #[test]
    fn deny_wins_and_no_word_is_a_yes() {
        for (allow, deny, repository, permitted) in [
            (&[][..], &[][..], "acme/app", true),
            (&["*"], &[], "acme/app", true),
            (&["library/*"], &[], "acme/app", false),
            (&["library/*"], &[], "library/alpine", true),
            (&["library/*", "acme/app"], &[], "acme/app", true),
            (&["acme/app"], &[], "acme/app/debug", false),
            (&["*"], &["acme/*"], "acme/app", false),
            (&["acme/app"], &["acme/*"], "acme/app", false),
            (&[], &["acme/*"], "acmes/app", true),
        ] {
            let said = Repositories { allow: globs(allow), deny: globs(deny), share: Vec::new() };
            assert_eq!(said.permits(&repository.parse().unwrap()), permitted, "{allow:?} {deny:?} {repository}");
        }
    }

    #[test]
    fn all_is_all() {
        let said = |allow: &[&str], deny: &[&str]| Repositories {
            allow: globs(allow),
            deny: globs(deny),
            ..Repositories::default()
        };
        assert!(said(&[], &[]).permits_all() && said(&["*"], &[]).permits_all());
        assert!(
            !said(&["a*"], &[]).permits_all()
                && !said(&["?"], &[]).permits_all()
                && !said(&["*"], &["b"]).permits_all()
        );
    }

    #[test]
    fn nothing_is_shared_unless_it_is_said() {
        let repository = "acme/app".parse().unwrap();
        assert!(!Repositories::default().shares(&repository));
        assert!(Repositories { share: globs(&["acme/*"]), ..Repositories::default() }.shares(&repository));
    }
}
