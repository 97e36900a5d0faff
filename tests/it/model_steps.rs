//! What can happen in a run of the model: the settings, the steps, and how steps are drawn.
//!
//! No step has a precondition: one that has nothing to do does nothing, so any part of a run is a
//! run too, and shrinks as it is.

use proptest::prelude::*;
use proptest::sample::select;

use crate::harness::Style;

/// What seawall is told for a whole run, and of what kind its upstream is.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Settings {
    /// A cache that holds a third of what there is.
    pub(crate) small: bool,
    /// `gone = "forget"`
    pub(crate) forget: bool,
    /// To who may not read a repository upstream says 404.
    pub(crate) hides: bool,
    /// The operator has an account, which may read everything, and shares `SHARED` by it.
    pub(crate) account: bool,
    /// Upstream can be silent. Deadlines are short, so that silence is: an answer may come late for
    /// that alone.
    pub(crate) silence: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Who {
    Nobody,
    Alice,
    Bob,
    /// Shows a token of nobody's.
    Stranger,
    /// Shows a token that seawall got for anonymous, for another repository.
    Elsewhere,
    /// Shows a token so long that upstream hangs up.
    Long,
}

impl Who {
    /// Whose grants they have beyond those of anonymous.
    pub(crate) fn user(self) -> Option<&'static str> {
        match self {
            Who::Alice => Some("alice"),
            Who::Bob => Some("bob"),
            Who::Nobody | Who::Stranger | Who::Elsewhere | Who::Long => None,
        }
    }
}

/// Who may read a repository.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Access {
    Public,
    Alice,
    Bob,
    Both,
    /// The operator's account alone.
    Closed,
}

impl Access {
    pub(crate) fn readers(self) -> Option<&'static [&'static str]> {
        match self {
            Access::Public => None,
            Access::Alice => Some(&["alice", "ci"]),
            Access::Bob => Some(&["bob", "ci"]),
            Access::Both => Some(&["alice", "bob", "ci"]),
            Access::Closed => Some(&["ci"]),
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Outage {
    Down,
    HangUp,
    Broken,
    /// Where there is none in this run: as `Down`.
    Silent,
    /// A gate answers everything with 200 and its page.
    Page,
    /// … with 200 and JSON.
    Json,
    /// … with 200 and nothing.
    Empty,
    /// … with 204.
    NoContent,
    /// … with 200 and bytes without a length.
    Stream,
    /// … with its page, but for the token service.
    PageButTokens,
    /// What the registry has comes packed, and it says so.
    Packed,
    /// The token service alone answers 503.
    NoTokens,
    /// No GET of a manifest more, for anybody.
    PullLimit,
    /// 429 for everything.
    AbuseLimit,
    /// It names no digests any more.
    NoDigest,
}

impl Outage {
    const ALL: [Outage; 15] = [
        Outage::Down,
        Outage::HangUp,
        Outage::Broken,
        Outage::Silent,
        Outage::Page,
        Outage::Json,
        Outage::Empty,
        Outage::NoContent,
        Outage::Stream,
        Outage::PageButTokens,
        Outage::Packed,
        Outage::NoTokens,
        Outage::PullLimit,
        Outage::AbuseLimit,
        Outage::NoDigest,
    ];

    /// Nothing helpful comes from upstream, whatever is asked.
    pub(crate) fn is_total(self) -> bool {
        !matches!(self, Outage::NoTokens | Outage::PullLimit) && !self.is_unreliable()
    }

    /// It refuses who may not read, but its yes may count for nothing.
    pub(crate) fn is_unreliable(self) -> bool {
        matches!(self, Outage::NoDigest | Outage::Packed)
    }

    /// Its answers with 200 are no answers.
    pub(crate) fn is_nonsense(self) -> bool {
        use Outage::{Empty, Json, NoContent, Packed, Page, PageButTokens, Stream};
        matches!(self, Page | PageButTokens | Json | Empty | NoContent | Stream | Packed)
    }

    /// Anonymous's question may meet it: its last yes stands.
    pub(crate) fn is_away(self) -> bool {
        self.is_total() || matches!(self, Outage::NoTokens | Outage::Packed)
    }
}

/// What one request is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Thing {
    Tag,
    HeadTag,
    Manifest,
    HeadManifest,
    /// The manifest of a platform.
    Child,
    Config,
    Layer,
    /// Every image of every repository has it.
    Base,
    Range,
    HeadLayer,
    /// `If-None-Match` with its digest.
    Known,
    /// A range behind its end.
    Beyond,
    /// A layer under `/manifests/`.
    Crossed,
    /// A manifest under `/blobs/`.
    CrossedBlob,
    /// What another repository holds; this one may not.
    Foreign,
    HeadForeign,
    /// Upstream breaks off in the middle of it, and refuses the rest.
    BrokenOff,
    /// The repository's tags.
    List,
}

impl Thing {
    pub(crate) fn is_head(self) -> bool {
        matches!(self, Thing::HeadTag | Thing::HeadManifest | Thing::HeadLayer | Thing::HeadForeign)
    }

    pub(crate) fn is_tag(self) -> bool {
        matches!(self, Thing::Tag | Thing::HeadTag)
    }
}

/// Which image of a repository's: four of each of its two generations; `None`: the one its tag
/// named last.
pub(crate) type Which = Option<u8>;

/// What happens at upstream between a question's answer and its arrival.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Change {
    Turn(Access),
    Push(u8),
    Delete,
}

#[derive(Clone, Copy, Debug)]
pub(crate) enum Step {
    /// The tag names this image now. It is pushed where it is not there.
    Push {
        repo: u8,
        tag: u8,
        image: u8,
    },
    /// The tag names a manifest that lists what an image of another repository has. None of it is
    /// pushed.
    Claim {
        repo: u8,
        tag: u8,
        image: u8,
    },
    /// 404 from now on.
    Delete {
        repo: u8,
        tag: u8,
    },
    /// The repository is deleted, and made again by another owner, with other content.
    Remake {
        repo: u8,
        to: Access,
        image: u8,
    },
    Turn {
        repo: u8,
        to: Access,
    },
    /// The manifest that the tag names is answered 412 (451) until it is pushed again.
    Block {
        repo: u8,
        tag: u8,
        law: bool,
    },
    Break(Outage),
    Recover,
    Restart,
    /// Seconds.
    Pass(u64),
    Pull {
        who: Who,
        repo: u8,
        tag: u8,
        style: Style,
    },
    Ask {
        who: Who,
        repo: u8,
        tag: u8,
        image: Which,
        thing: Thing,
        h2: bool,
    },
    /// The answer of upstream is made, something changes there and anonymous asks for the same,
    /// then it arrives.
    Late {
        who: Who,
        repo: u8,
        tag: u8,
        thing: Thing,
        change: Change,
    },
    /// The same name at a registry that says 200 to the HEAD of every digest, and has nothing.
    Liar {
        who: Who,
        repo: u8,
        tag: u8,
        image: Which,
        thing: Thing,
    },
    /// Through seawall.
    Put {
        who: Who,
        repo: u8,
        tag: u8,
        image: u8,
    },
    /// DELETE through seawall, of the tag or of the digest that it names.
    Remove {
        who: Who,
        repo: u8,
        tag: u8,
        digest: bool,
    },
}

pub(crate) const REPOS: u8 = 3;
pub(crate) const TAGS: u8 = 2;
/// Of each generation.
pub(crate) const IMAGES: u8 = 4;
/// The repository that the operator shares, where there is an account.
pub(crate) const SHARED: u8 = 2;

/// What upstream does.
fn upstream() -> impl Strategy<Value = Step> {
    let (repo, tag, image) = (0..REPOS, 0..TAGS, 0..IMAGES);
    let spot = || (repo.clone(), tag.clone());
    let access = || {
        let all = vec![Access::Public, Access::Public, Access::Alice, Access::Bob, Access::Both, Access::Closed];
        select(all)
    };
    prop_oneof![
        10 => (spot(), image.clone()).prop_map(|((repo, tag), image)| Step::Push { repo, tag, image }),
        2 => (spot(), image.clone()).prop_map(|((repo, tag), image)| Step::Claim { repo, tag, image }),
        2 => spot().prop_map(|(repo, tag)| Step::Delete { repo, tag }),
        2 => (repo.clone(), access(), image.clone())
            .prop_map(|(repo, to, image)| Step::Remake { repo, to, image }),
        7 => (repo.clone(), access()).prop_map(|(repo, to)| Step::Turn { repo, to }),
        1 => (spot(), any::<bool>()).prop_map(|((repo, tag), law)| Step::Block { repo, tag, law }),
        8 => select(Outage::ALL.to_vec()).prop_map(Step::Break),
        10 => Just(Step::Recover),
        2 => Just(Step::Restart),
        16 => select(vec![1, 25, 70, 70, 250, 400, 1000, 90_000]).prop_map(Step::Pass),
    ]
}

fn thing() -> impl Strategy<Value = Thing> {
    let all = vec![
        (4, Thing::Tag),
        (2, Thing::HeadTag),
        (3, Thing::Manifest),
        (2, Thing::HeadManifest),
        (1, Thing::Child),
        (2, Thing::Config),
        (4, Thing::Layer),
        (1, Thing::Base),
        (2, Thing::Range),
        (2, Thing::HeadLayer),
        (1, Thing::Known),
        (1, Thing::Beyond),
        (1, Thing::Crossed),
        (1, Thing::CrossedBlob),
        (1, Thing::Foreign),
        (1, Thing::HeadForeign),
        (1, Thing::BrokenOff),
        (1, Thing::List),
    ];
    select(all.into_iter().flat_map(|(n, thing)| std::iter::repeat_n(thing, n)).collect::<Vec<_>>())
}

/// What clients do.
fn clients() -> impl Strategy<Value = Step> {
    let (repo, tag, image) = (0..REPOS, 0..TAGS, 0..IMAGES);
    let spot = || (repo.clone(), tag.clone());
    let user = || select(vec![Who::Nobody, Who::Nobody, Who::Alice, Who::Bob]);
    let who = || {
        let odd = select(vec![Who::Stranger, Who::Elsewhere, Who::Long]);
        prop_oneof![5 => user(), 1 => odd]
    };
    let which = || prop_oneof![4 => Just(None), 1 => (0..2 * IMAGES).prop_map(Some)];
    let access = select(vec![Access::Public, Access::Alice, Access::Closed]);
    let change = prop_oneof![
        3 => access.prop_map(Change::Turn),
        1 => image.clone().prop_map(Change::Push),
        1 => Just(Change::Delete),
    ];
    prop_oneof![
        20 => (user(), spot(), select(Style::ALL.to_vec()))
            .prop_map(|(who, (repo, tag), style)| Step::Pull { who, repo, tag, style }),
        52 => (who(), spot(), which(), thing(), any::<bool>())
            .prop_map(|(who, (repo, tag), image, thing, h2)| Step::Ask { who, repo, tag, image, thing, h2 }),
        3 => (who(), spot(), thing(), change)
            .prop_map(|(who, (repo, tag), thing, change)| Step::Late { who, repo, tag, thing, change }),
        3 => (who(), spot(), which(), thing())
            .prop_map(|(who, (repo, tag), image, thing)| Step::Liar { who, repo, tag, image, thing }),
        3 => (who(), spot(), image.clone()).prop_map(|(who, (repo, tag), image)| Step::Put { who, repo, tag, image }),
        1 => (who(), spot(), any::<bool>())
            .prop_map(|(who, (repo, tag), digest)| Step::Remove { who, repo, tag, digest }),
    ]
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![2 => upstream(), 3 => clients()]
}

/// Short stories of what has gone wrong before, or would: no accident would tell them often.
fn story() -> impl Strategy<Value = Vec<Step>> {
    let private = select(vec![(Access::Alice, Who::Alice), (Access::Bob, Who::Bob), (Access::Closed, Who::Bob)]);
    let outage = select(Outage::ALL.to_vec());
    let odd = select(vec![Who::Nobody, Who::Stranger, Who::Elsewhere, Who::Long, Who::Bob]);
    let spot = (0..REPOS, 0..TAGS, 0..IMAGES);
    (0..9_u8, spot, private, outage, odd, thing(), thing()).prop_map(|(which, spot, private, outage, odd, one, two)| {
        let ((repo, tag, image), (to, owner)) = (spot, private);
        let ask = |who, thing| Step::Ask { who, repo, tag, image: None, thing, h2: false };
        let pull = |who| Step::Pull { who, repo, tag, style: Style::Docker };
        let (turn, public) = (Step::Turn { repo, to }, Step::Turn { repo, to: Access::Public });
        let push = Step::Push { repo, tag, image };
        let other = Step::Pull { who: Who::Nobody, repo, tag: 1 - tag, style: Style::Docker };
        match which {
            // It was public, and has something new now that it is not.
            0 => vec![public, pull(Who::Nobody), turn, push, pull(owner), ask(odd, one), ask(Who::Nobody, two)],
            // What another repository has is listed here.
            1 => vec![Step::Claim { repo, tag, image }, ask(odd, Thing::Manifest), ask(odd, one), ask(odd, two)],
            // It is public and away; something here never was.
            2 => vec![turn, pull(owner), public, other, Step::Break(outage), ask(odd, one), ask(odd, two)],
            // A private one, and something in front of it.
            3 => vec![turn, pull(owner), Step::Break(outage), ask(odd, one), Step::Recover, ask(odd, two)],
            // Nobody has pulled it since it is private.
            4 => vec![public, other, turn, push, ask(Who::Nobody, one), ask(odd, two)],
            // The beginning of it is here.
            5 => vec![turn, push, ask(owner, Thing::BrokenOff), Step::Break(outage), ask(odd, Thing::Layer)],
            // A refused push.
            6 => vec![pull(Who::Nobody), Step::Put { who: odd, repo, tag, image }, Step::Break(outage), ask(odd, one)],
            // A refused token.
            7 => {
                vec![public, pull(Who::Nobody), Step::Pass(1000), ask(odd, one), Step::Break(outage), pull(Who::Nobody)]
            }
            // A no, then an outage.
            _ => vec![
                public,
                pull(Who::Nobody),
                turn,
                Step::Pass(1000),
                ask(Who::Nobody, one),
                Step::Break(outage),
                ask(odd, two),
            ],
        }
    })
}

/// Some steps of a run.
pub(crate) fn steps() -> impl Strategy<Value = Vec<Step>> {
    prop_oneof![7 => step().prop_map(|step| vec![step]), 1 => story()]
}
