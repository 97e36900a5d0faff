//! The whole matrix of issue 3 as one table: who asks for what of a repository, how, in which state
//! of the cache, and what upstream says of the repository. This file is the table and how it is
//! read; `matrix_world` plays it, `matrix_runs` and `matrix_flight` are the tests.
//!
//! The rules behind the table (invariants 7 and 9, docs/protocol.md 6, "Private isolation"):
//!
//! 1. A yes to an anonymous client opens a repository to every credential, for `public_ttl`. Within
//!    it nobody is asked again.
//! 2. A yes to a credential opens it to that credential, for `grant_ttl`.
//! 3. Without such a yes upstream is asked, with the client's own credential, and its word is
//!    passed on. So a credential that upstream does not know is refused even where a client without
//!    one is let in.
//! 4. HEAD of a blob is what a pusher asks: upstream is always asked, by the client's own
//!    credential (invariant 9).
//! 5. When upstream cannot be asked, its last anonymous yes stands however old, and what is served
//!    by it is marked stale; a yes to a credential stands for `grant_ttl` only. Whom neither covers
//!    gets an error, and nothing else.
//! 6. To know a length is to know a byte: HEAD obeys the same rules as GET, and so does 304.

use std::fmt;

/// Who asks. The order of the table's columns.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Who {
    /// No `Authorization`.
    Nobody,
    /// A token that was issued to nobody.
    Anonymous,
    /// A: may read it.
    Alice,
    /// B: has an account, and may not read what is private. His token was asked for with this
    /// repository's name in it.
    Bob,
    /// Another account that may read it.
    Carol,
    /// A's token for another repository.
    Elsewhere,
    /// A token that nobody issued.
    MadeUp,
    /// A's true password, which this registry does not take in place of a token.
    Basic,
}

impl Who {
    pub(crate) const ALL: [Who; 8] =
        [Who::Nobody, Who::Anonymous, Who::Alice, Who::Bob, Who::Carol, Who::Elsewhere, Who::MadeUp, Who::Basic];
}

/// What is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Thing {
    Tag,
    /// The manifest by its digest.
    Digest,
    Blob,
    Config,
    /// A range of the blob.
    Range,
}

impl Thing {
    pub(crate) const ALL: [Thing; 5] = [Thing::Tag, Thing::Digest, Thing::Blob, Thing::Config, Thing::Range];

    pub(crate) fn is_manifest(self) -> bool {
        matches!(self, Thing::Tag | Thing::Digest)
    }
}

/// … and how.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum How {
    Get,
    /// GET with `If-None-Match` of the very digest.
    Condition,
    Head,
}

impl How {
    pub(crate) const ALL: [How; 3] = [How::Get, How::Condition, How::Head];
}

/// What upstream says of the repository.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Place {
    Public,
    /// Alice and carol may read it.
    Private,
    /// It was public when seawall last asked, which is less than `public_ttl` ago. Now it is
    /// private to alice and carol.
    Turned,
    /// The same, `public_ttl` later.
    TurnedLong,
}

/// What seawall has, and whether upstream answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum State {
    /// All of it is here: an anonymous client has pulled it, or alice where that is not possible.
    /// Nobody else has asked yet.
    Cached,
    /// None of it is here.
    NotCached,
    /// The first of those is pulling it, and upstream has stopped midway.
    InFlight,
    /// Cached, and upstream refuses connections.
    Down,
    /// Cached; upstream is away, and all that was believed has run out.
    DownLong,
    /// Cached; seawall has been told that it is private now, and alice has been let in since. Then
    /// upstream went away.
    DownTold,
    /// None of it is here, and upstream is away.
    DownEmpty,
}

/// Which requests a line is for; a later line of the same place and state is the exception from an
/// earlier one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Asked {
    All,
    /// HEAD of blob or config, with a range or without.
    HeadOfBlob,
    /// HEAD of a manifest by digest.
    HeadOfDigest,
}

impl Asked {
    fn is(self, thing: Thing, how: How) -> bool {
        match self {
            Asked::All => true,
            Asked::HeadOfBlob => how == How::Head && !thing.is_manifest(),
            Asked::HeadOfDigest => how == How::Head && thing == Thing::Digest,
        }
    }
}

/// What a cell expects.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Expected {
    /// `s`: 200, 206 to a range, 304 to a condition; not stale.
    Served,
    /// `w`: the same, with `Warning` and `fwd=stale`.
    Stale,
    /// `r`: 401 or 403, and nothing of the content.
    Refused,
    /// `e`: 502, 503 or 504, and nothing of the content.
    Error,
}

type Line = (Place, State, Asked, &'static str);

/// Columns: nobody, anonymous token, alice (A), bob (B), carol, A's token for another repository,
/// made up, Basic.
const TABLE: &[Line] = {
    use Asked::{All, HeadOfBlob, HeadOfDigest};
    use Place::{Private, Public, Turned, TurnedLong};
    use State::{Cached, Down, DownEmpty, DownLong, DownTold, InFlight, NotCached};
    &[
        // Rule 1: nobody is asked, so what the credential is worth is not found out; and rule 4.
        (Public, Cached, All, "s s s s s s s s"),
        (Public, Cached, HeadOfBlob, "s s s s s r r r"),
        // Rule 3.
        (Public, NotCached, All, "s s s s s r r r"),
        // Rule 1: it is known to be public, by another tag. Of a manifest that is on its way the
        // length is not known: rule 3.
        (Public, InFlight, All, "s s s s s s s s"),
        (Public, InFlight, HeadOfBlob, "s s s s s r r r"),
        (Public, InFlight, HeadOfDigest, "s s s s s r r r"),
        // Rule 1, until it runs out; then rule 5. Whoever must be asked (rule 4) cannot be.
        (Public, Down, All, "s s s s s s s s"),
        (Public, Down, HeadOfBlob, "w w w w w w w w"),
        (Public, DownLong, All, "w w w w w w w w"),
        (Public, DownEmpty, All, "e e e e e e e e"),
        // Rule 3 for all but alice, who has rule 2.
        (Private, Cached, All, "r r s r s r r r"),
        (Private, NotCached, All, "r r s r s r r r"),
        (Private, InFlight, All, "r r s r s r r r"),
        // Rule 2, then rule 5. Carol was never let in, so nobody knows that she may.
        (Private, Down, All, "e e s e e e e e"),
        (Private, Down, HeadOfBlob, "e e w e e e e e"),
        (Private, DownLong, All, "e e e e e e e e"),
        (Private, DownEmpty, All, "e e e e e e e e"),
        // Rule 1: what was open a moment ago is believed to be. But what is not here has to be
        // fetched, and whoever fetches is seen.
        (Turned, Cached, All, "s s s s s s s s"),
        (Turned, Cached, HeadOfBlob, "r r s r s r r r"),
        (Turned, NotCached, All, "r r s r s r r r"),
        (Turned, InFlight, All, "s s s s s s s s"),
        (Turned, InFlight, HeadOfBlob, "r r s r s r r r"),
        (Turned, InFlight, HeadOfDigest, "r r s r s r r r"),
        (Turned, Down, All, "s s s s s s s s"),
        (Turned, Down, HeadOfBlob, "w w w w w w w w"),
        // As a private one. Who leads a fill began it when it was public: it goes on, and whoever
        // comes now needs a yes.
        (TurnedLong, Cached, All, "r r s r s r r r"),
        (TurnedLong, NotCached, All, "r r s r s r r r"),
        (TurnedLong, InFlight, All, "r r s r s r r r"),
        // Rule 5: nobody told seawall. And when somebody did, the anonymous yes is gone for good.
        (TurnedLong, DownLong, All, "w w w w w w w w"),
        (TurnedLong, DownTold, All, "e e s e e e e e"),
        (TurnedLong, DownTold, HeadOfBlob, "e e w e e e e e"),
    ]
};

/// One square of the matrix.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) struct Cell {
    pub(crate) place: Place,
    pub(crate) state: State,
    pub(crate) who: Who,
    pub(crate) thing: Thing,
    pub(crate) how: How,
}

impl fmt::Debug for Cell {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Cell { place, state, who, thing, how } = self;
        write!(f, "{place:?}, {state:?}: {who:?}: {how:?} {thing:?}")
    }
}

impl Cell {
    pub(crate) fn expected(self) -> Expected {
        let Cell { place, state, who, thing, how } = self;
        let mut lines = TABLE.iter().filter(|line| (line.0, line.1) == (place, state) && line.2.is(thing, how));
        let cells = lines.next_back().unwrap_or_else(|| panic!("{self:?} is not in the table")).3;
        let column = Who::ALL.iter().position(|one| *one == who).expect("a column");
        match cells.split(' ').nth(column) {
            Some("s") => Expected::Served,
            Some("w") => Expected::Stale,
            Some("r") => Expected::Refused,
            Some("e") => Expected::Error,
            other => panic!("{self:?}: {other:?}"),
        }
    }
}

/// Every way to ask, those last that always ask upstream: what they find out must not help or harm
/// the others.
pub(crate) fn asks() -> Vec<(Thing, How)> {
    let mut asks: Vec<_> = How::ALL.iter().flat_map(|how| Thing::ALL.map(|thing| (thing, *how))).collect();
    asks.sort_by_key(|(thing, how)| Asked::HeadOfBlob.is(*thing, *how));
    asks
}

#[test]
fn the_table_has_a_cell_for_everybody_and_no_line_twice() {
    for (n, (place, state, asked, cells)) in TABLE.iter().enumerate() {
        assert_eq!(cells.split(' ').count(), Who::ALL.len(), "{place:?} {state:?} {asked:?}");
        let twice = TABLE[..n].iter().any(|line| (line.0, line.1, line.2) == (*place, *state, *asked));
        assert!(!twice, "{place:?} {state:?} {asked:?} is there twice");
        let general = TABLE[..=n].iter().any(|line| (line.0, line.1, line.2) == (*place, *state, Asked::All));
        assert!(general, "{place:?} {state:?} {asked:?} is an exception from nothing");
    }
    assert_eq!(asks().len(), 15);
}
