//! What upstream told of a tag, to whom, and how that is written down. Of what the credentials of
//! clients were told, the newest is: it may be of use to a login that is remembered.

use std::ops::Not;
use std::sync::Arc;
use std::time::SystemTime;

use serde::{Deserialize, Serialize};

use crate::http::warnings::Warnings;
use crate::oci::digest::Digest;
use crate::oci::media_type::Accept;
use crate::records::{seconds, time};
use crate::upstream::requester::{Credential, Fingerprint};

/// What a tag names, for clients that accept the same.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Binding {
    /// The digest.
    pub digest: Digest,
    /// Of the manifest.
    pub media_type: Arc<str>,
    /// Of the manifest in bytes, where upstream said it.
    pub size: Option<u64>,
    /// When upstream was last asked, and confirmed it: the question was sent then.
    pub checked: SystemTime,
    /// Whether upstream took a push of the tag since: then it is not fresh.
    pub overtaken: bool,
    /// What the tag named before, and can be served: this one may never come.
    pub before: Option<Arc<Binding>>,
    /// What upstream warned of with it.
    pub warnings: Warnings,
}

impl Binding {
    /// What upstream named, when it was asked then.
    pub fn new(digest: Digest, media_type: Arc<str>, size: Option<u64>, checked: SystemTime) -> Binding {
        Binding { digest, media_type, size, checked, overtaken: false, before: None, warnings: Warnings::default() }
    }

    /// When it was last confirmed, if no push overtook that.
    pub fn confirmed(&self) -> Option<SystemTime> {
        self.overtaken.not().then_some(self.checked)
    }

    /// This, where the tag named `last` until now.
    #[must_use]
    pub fn after(self, last: Option<Binding>, is_here: impl Fn(&Digest) -> bool) -> Binding {
        let before = match last {
            Some(last) if last.digest != self.digest && is_here(&last.digest) => {
                Some(Arc::new(Binding { before: None, ..last }))
            }
            last => last.and_then(|last| last.before),
        };
        Binding { before: before.filter(|before| before.digest != self.digest), ..self }
    }
}

/// Whom upstream told what a tag names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ToldTo {
    /// Anonymous.
    Anonymous,
    /// The operator's account.
    Account,
    /// A credential of a client's own.
    Known(Fingerprint),
    /// One of before the last start.
    Somebody,
}

impl ToldTo {
    /// Whoever asks with this credential.
    pub fn of(who: Credential) -> ToldTo {
        match who {
            Credential::Anonymous | Credential::Remembered(_) => ToldTo::Anonymous,
            Credential::Account => ToldTo::Account,
            Credential::Known(print) => ToldTo::Known(print),
        }
    }

    /// Whether it is a credential of a client's own, whichever.
    pub fn is_clients(self) -> bool {
        matches!(self, ToldTo::Known(_) | ToldTo::Somebody)
    }
}

/// What a tag names, for clients that accept the same, by upstream's word to one requester.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Told {
    /// What the clients accept.
    pub accept: Accept,
    /// The requester.
    pub to: ToldTo,
    /// What the tag names.
    pub binding: Binding,
}

#[derive(Serialize, Deserialize)]
struct Record {
    accept: u8,
    to: Whom,
    #[serde(flatten)]
    named: Named,
    #[serde(default, skip_serializing_if = "Not::not")]
    overtaken: bool,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    before: Option<Named>,
}

#[derive(Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Whom {
    Anonymous,
    Account,
    Client,
}

#[derive(Serialize, Deserialize)]
struct Named {
    digest: Digest,
    media_type: Arc<str>,
    size: Option<u64>,
    checked: u64,
    #[serde(default, skip_serializing_if = "Warnings::is_empty")]
    warnings: Warnings,
}

/// What is written of a tag.
pub(super) fn written(all: &[Told]) -> impl Serialize + use<> {
    let is_newest = |told: &&Told| {
        let newer = |other: &Told| other.accept == told.accept && other.binding.checked > told.binding.checked;
        !told.to.is_clients() || !all.iter().any(|other| other.to.is_clients() && newer(other))
    };
    all.iter().filter(is_newest).map(Record::of).collect::<Vec<_>>()
}

/// What was written of a tag; `None`: nothing that can be read.
pub(super) fn read(value: &[u8]) -> Option<Arc<[Told]>> {
    let records: Vec<Record> = serde_json::from_slice(value).ok()?;
    Some(records.into_iter().map(Record::read).collect())
}

impl Record {
    fn of(told: &Told) -> Record {
        let to = match told.to {
            ToldTo::Anonymous => Whom::Anonymous,
            ToldTo::Account => Whom::Account,
            ToldTo::Known(_) | ToldTo::Somebody => Whom::Client,
        };
        let binding = &told.binding;
        let before = binding.before.as_deref().map(Named::of);
        Record { accept: told.accept.bits(), to, named: Named::of(binding), overtaken: binding.overtaken, before }
    }

    fn read(self) -> Told {
        let to = match self.to {
            Whom::Anonymous => ToldTo::Anonymous,
            Whom::Account => ToldTo::Account,
            Whom::Client => ToldTo::Somebody,
        };
        let before = self.before.map(|before| Arc::new(before.read()));
        let binding = Binding { overtaken: self.overtaken, before, ..self.named.read() };
        Told { accept: Accept::from_bits(self.accept), to, binding }
    }
}

impl Named {
    fn of(binding: &Binding) -> Named {
        Named {
            digest: binding.digest.clone(),
            media_type: binding.media_type.clone(),
            size: binding.size,
            checked: seconds(binding.checked),
            warnings: binding.warnings.clone(),
        }
    }

    fn read(self) -> Binding {
        let Named { digest, media_type, size, checked, warnings } = self;
        Binding { warnings, ..Binding::new(digest, media_type, size, time(checked)) }
    }
}
