use super::*;
use crate::oci::digest::Algorithm;
use crate::oci::media_type::Accept;
use crate::oci::media_type::{OCI_INDEX, OCI_MANIFEST};
use crate::records::time;
use crate::upstream::requester::Keyring;

fn binding(media_type: &str, at: u64) -> Binding {
    let digest = Digest::of(Algorithm::Sha256, media_type.as_bytes());
    let (media_type, checked) = (media_type.into(), time(at));
    Binding::new(digest, media_type, Some(1), checked)
}

fn told_to_all(accept: Accept, binding: Binding) -> Told {
    Told { accept, to: ToldTo::Anonymous, binding }
}

fn find(bindings: &Bindings, key: &Arc<str>, accept: Accept) -> Option<Binding> {
    bindings.told(key).iter().find(|told| told.accept == accept).map(|told| told.binding.clone())
}

/// Pitfalls 1 and 13: the registry and what the client accepts are in the key.
#[test]
fn one_tag_names_different_things_for_different_clients_and_registries() {
    let bindings = Bindings::new(Journal::off(), Vec::new());
    let tag: Tag = "1".parse().unwrap();
    let (hub, ghcr) = (key(&"docker.io/a/b".into(), &tag), key(&"ghcr.io/a/b".into(), &tag));
    let (old, new) = (Accept::of([OCI_MANIFEST].into_iter()), Accept::of([OCI_MANIFEST, OCI_INDEX].into_iter()));
    bindings.bind(&hub, told_to_all(old, binding(OCI_MANIFEST, 1)), time(1));
    assert_eq!(find(&bindings, &hub, new), None);
    assert_eq!(find(&bindings, &ghcr, old), None);
    bindings.bind(&hub, told_to_all(new, binding(OCI_INDEX, 2)), time(2));
    assert_eq!(find(&bindings, &hub, old).unwrap().media_type.as_ref(), OCI_MANIFEST);
    bindings.forget(&hub, ToldTo::Anonymous, time(9), time(9));
    assert!(bindings.told(&hub).is_empty());
}

/// Pitfall 46: what a push does to what is bound, and to answers from before it.
#[test]
fn a_push_makes_its_tag_old_and_no_other() {
    let bindings = Bindings::new(Journal::off(), Vec::new());
    let (one, two): (Arc<str>, Arc<str>) = ("r/a:1".into(), "r/a:2".into());
    let any = Accept::of([OCI_MANIFEST].into_iter());
    let confirmed = |key| find(&bindings, key, any).unwrap().confirmed();
    for key in [&one, &two] {
        bindings.bind(key, told_to_all(any, binding("old", 10)), time(10));
    }
    bindings.overtake(&one, time(20));
    assert_eq!((confirmed(&one), confirmed(&two)), (None, Some(time(10))));
    assert_eq!(find(&bindings, &one, any).unwrap().checked, time(10), "it stands for as long as before");
    bindings.bind(&one, told_to_all(any, binding("old", 19)), time(21));
    assert_eq!(confirmed(&one), None, "asked before");
    bindings.bind(&one, told_to_all(any, binding("new", 22)), time(23));
    assert_eq!(confirmed(&one), Some(time(22)));
    bindings.bind(&one, told_to_all(any, binding("old", 19)), time(24));
    assert_eq!(confirmed(&one), Some(time(22)), "a late answer");
    bindings.forget(&one, ToldTo::Anonymous, time(21), time(24));
    assert_eq!(confirmed(&one), Some(time(22)), "a late 404");
    bindings.bind(&two, told_to_all(any, binding("old", 1)), time(62));
    assert_eq!(confirmed(&two), Some(time(10)));
    bindings.bind(&two, told_to_all(any, binding("slow", 25)), time(90));
    assert_eq!(confirmed(&two), None, "who knows what was pushed since");
    bindings.bind(&two, told_to_all(any, binding("future", 900)), time(900));
    bindings.bind(&two, told_to_all(any, binding("now", 91)), time(91));
    assert_eq!(confirmed(&two), Some(time(91)), "the clock was wrong");
}

#[test]
fn what_was_served_last_stays_at_hand_until_what_is_new_is_here() {
    let (one, two, three) = (binding("one", 1), binding("two", 2), binding("three", 3));
    let here = |names: &'static [&str]| {
        move |digest: &Digest| names.iter().any(|name| *digest == Digest::of(Algorithm::Sha256, name.as_bytes()))
    };
    let before = |binding: &Binding| binding.before.as_ref().map(|before| before.media_type.to_string());
    assert_eq!(before(&one.clone().after(None, here(&["one"]))), None);
    let moved = two.clone().after(Some(one.clone()), here(&["one"]));
    assert_eq!(before(&moved).as_deref(), Some("one"));
    assert_eq!(before(&two.clone().after(Some(moved.clone()), here(&["one"]))).as_deref(), Some("one"), "confirmed");
    assert_eq!(before(&three.clone().after(Some(moved.clone()), here(&["one"]))).as_deref(), Some("one"), "moved on");
    assert_eq!(before(&three.after(Some(moved.clone()), here(&["one", "two"]))).as_deref(), Some("two"), "it came");
    assert_eq!(before(&one.clone().after(Some(moved), here(&["one"]))), None, "moved back");
    assert_eq!(before(&two.after(Some(one), here(&[]))), None, "nothing to serve");
}

#[test]
fn what_a_tag_named_before_is_written_down_too() {
    let new = binding("new", 2).after(Some(binding("old", 1)), |_| true);
    let accept = Accept::of([OCI_MANIFEST].into_iter());
    let again = |all: Vec<Told>| told::read(&serde_json::to_vec(&told::written(&all)).unwrap()).unwrap();
    assert_eq!(*again(vec![told_to_all(accept, new.clone())]), [told_to_all(accept, new)]);
    let old = Binding { overtaken: true, ..binding("old", 1) };
    assert_eq!(*again(vec![told_to_all(accept, old.clone())]), [told_to_all(accept, old)]);
}

/// What one client was told is no other's; of all that clients were told the newest is written.
#[test]
fn each_requester_is_told_for_itself() {
    let (bindings, ring) = (Bindings::new(Journal::off(), Vec::new()), Keyring::new());
    let (key, accept): (Arc<str>, _) = ("r/a:1".into(), Accept::of([OCI_MANIFEST].into_iter()));
    let to = |n: u64| ToldTo::Known(ring.bearer(&n.to_string()));
    let most = MOST_CLIENTS as u64;
    for n in 1..=most + 1 {
        bindings.bind(&key, Told { accept, to: to(n), binding: binding("x", n) }, time(n));
    }
    bindings.bind(&key, told_to_all(accept, binding("y", 1)), time(1));
    let all = bindings.told(&key);
    assert_eq!(all.len(), MOST_CLIENTS + 1, "and anonymous's");
    assert!(!all.iter().any(|told| told.to == to(1)), "the oldest asks again");
    let read = told::read(&serde_json::to_vec(&told::written(&all)).unwrap()).unwrap();
    let read: Vec<_> = read.iter().map(|told| (told.to, told.binding.checked)).collect();
    assert_eq!(read, [(ToldTo::Somebody, time(most + 1)), (ToldTo::Anonymous, time(1))]);
    bindings.forget(&key, to(5), time(100), time(100));
    assert_eq!(bindings.told(&key).len(), MOST_CLIENTS);
}
