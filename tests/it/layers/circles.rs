//! Which file uses which, and where that goes round in a circle.

use std::collections::{BTreeMap, BTreeSet};

use super::paths::{Import, Names, Path, names};

/// A file by its place in the tree of modules: `cache/mod.rs` and `cache.rs` are `["cache"]`.
pub(crate) type Module = Vec<String>;

/// From a file to the files that it uses, and by which names.
pub(crate) type Edges = BTreeMap<Module, BTreeMap<Module, BTreeSet<String>>>;

/// What the files of the crate name.
pub(crate) struct Tree(BTreeMap<Module, Names>);

impl Tree {
    /// Of each file its module and its code.
    pub(crate) fn new<'a>(files: impl IntoIterator<Item = (Module, &'a str)>) -> Tree {
        Tree(files.into_iter().map(|(module, code)| (module, names(code))).collect())
    }

    /// The path from the crate's root on that `path` is in `module`, if it leads into this crate by
    /// modules.
    pub(crate) fn absolute(&self, module: &Module, path: &[String]) -> Option<Path> {
        let first = path.first()?.as_str();
        let above = path.iter().take_while(|word| *word == "super").count();
        match first {
            "crate" => Some(path[1..].to_vec()),
            "self" => Some([module, &path[1..]].concat()),
            "super" => Some([&module[..module.len().checked_sub(above)?], &path[above..]].concat()),
            _ => {
                let child = [module, &path[..1]].concat();
                self.0.contains_key(&child).then(|| [module, path].concat())
            }
        }
    }

    /// The same of a path that stands in code: it may begin with a module that was imported.
    fn absolute_inline(&self, module: &Module, path: &[String]) -> Option<Path> {
        self.absolute(module, path).or_else(|| {
            let imported = self.0[module].imports.iter().find(|import| import.name == path[0])?;
            let leads_to = self.absolute(module, &imported.path)?;
            // An item is used where it is imported.
            self.0.contains_key(&leads_to).then(|| [&leads_to, &path[1..]].concat())
        })
    }

    /// The file that defines what an absolute path names: what a file gives on by `pub use` is
    /// defined elsewhere.
    fn definer(&self, path: &[String], follow: usize) -> Option<Module> {
        let length = (1..=path.len()).rev().find(|length| self.0.contains_key(&path[..*length]))?;
        let (module, rest) = (path[..length].to_vec(), &path[length..]);
        let Some(name) = rest.first() else { return Some(module) };
        let given_on = self.0[&module].imports.iter().filter(|import| import.is_public);
        let mut named = given_on.clone().filter(|import| import.name == *name);
        if let (Some(import), true) = (named.next(), follow > 0) {
            let leads_to = self.absolute(&module, &import.path)?;
            return self.definer(&[&leads_to, &rest[1..]].concat(), follow - 1);
        }
        let mut all = given_on.filter(|import| import.name == "*").filter_map(|import| {
            let leads_to = self.absolute(&module, &import.path[..import.path.len() - 1])?;
            let has_it = |names: &Names| names.words.contains(name);
            self.0.get(&leads_to).is_some_and(has_it).then_some(leads_to)
        });
        Some(all.next().unwrap_or(module))
    }

    /// Every path of a file that leads into this crate, from its root on.
    pub(crate) fn paths_of<'a>(&'a self, module: &'a Module) -> impl Iterator<Item = Path> + 'a {
        let names = &self.0[module];
        let imports = names.imports.iter().filter_map(|import| self.absolute(module, &import.path));
        imports.chain(names.paths.iter().filter_map(|path| self.absolute_inline(module, path)))
    }

    /// Which file uses which.
    pub(crate) fn edges(&self) -> Edges {
        let mut edges = Edges::new();
        for (module, names) in &self.0 {
            let imports = names.imports.iter().filter(|import| self.is_use(module, names, import));
            let imports = imports.filter_map(|import| self.absolute(module, &import.path));
            let inline = names.paths.iter().filter_map(|path| self.absolute_inline(module, path));
            for path in imports.chain(inline) {
                let Some(there) = self.definer(&path, 9).filter(|there| there != module) else { continue };
                let name = path.get(there.len()..).filter(|rest| !rest.is_empty()).unwrap_or(&path[path.len() - 1..]);
                edges.entry(module.clone()).or_default().entry(there).or_default().insert(name.join("::"));
            }
        }
        edges
    }

    /// A shopfront is none: what a file gives on of the files below it, and does not touch. Nor is
    /// a module by itself: what is used of it is seen where that is done.
    fn is_use(&self, module: &Module, names: &Names, import: &Import) -> bool {
        let Some(path) = self.absolute(module, &import.path) else { return false };
        if self.0.contains_key(&path) {
            return false;
        }
        let is_below = self.definer(&path, 9).is_some_and(|there| there.starts_with(module));
        !(import.is_public && is_below) || names.words.contains(&import.name)
    }
}

/// The edges of every circle of files of one module, by that module: `a -> b: names`.
pub(crate) fn circles(edges: &Edges) -> BTreeMap<String, Vec<String>> {
    let none = BTreeMap::new();
    let inside = |from: &Module| {
        let from_module = from.first().cloned();
        edges.get(from).unwrap_or(&none).iter().filter(move |(to, _)| to.first() == from_module.as_ref())
    };
    let reached = |from: &Module| {
        let (mut seen, mut next) = (BTreeSet::new(), vec![from.clone()]);
        while let Some(module) = next.pop() {
            next.extend(inside(&module).map(|(to, _)| to).filter(|to| seen.insert((*to).clone())).cloned());
        }
        seen
    };
    let reached: BTreeMap<&Module, BTreeSet<Module>> = edges.keys().map(|from| (from, reached(from))).collect();
    let comes_back = |from: &Module, to: &Module| reached.get(to).is_some_and(|there| there.contains(from));
    let mut circles: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for from in edges.keys() {
        for (to, names) in inside(from).filter(|(to, _)| comes_back(from, to)) {
            let names = names.iter().map(String::as_str).collect::<Vec<_>>().join(", ");
            let edge = format!("{} -> {}: {names}", from.join("/"), to.join("/"));
            circles.entry(from[0].clone()).or_default().push(edge);
        }
    }
    circles
}

#[cfg(test)]
mod tests {
    use super::super::code::code;
    use super::*;

    fn circles_of(files: &[(&str, &str)]) -> Vec<String> {
        let code: Vec<_> = files.iter().map(|(module, text)| (module, code(text).text)).collect();
        let module = |path: &str| path.split('/').map(str::to_owned).collect();
        let tree = Tree::new(code.iter().map(|(path, text)| (module(path), text.as_str())));
        circles(&tree.edges()).into_values().flatten().collect()
    }

    #[test]
    fn a_circle_of_two() {
        let said = circles_of(&[
            ("m", "mod a; mod b;"),
            ("m/a", "use super::b::B;\npub struct A(B);"),
            ("m/b", "pub struct B(Option<Box<super::a::A>>);"),
        ]);
        assert_eq!(said, ["m/a -> m/b: B", "m/b -> m/a: A"]);
    }

    #[test]
    fn a_circle_of_three_and_none_beside_it() {
        let said = circles_of(&[
            ("m", "mod a; mod b; mod c; mod d; use a::A; use d::D; fn f(_: A, _: D) {}"),
            ("m/a", "use crate::m::b;\nfn f() { b::run() }\npub struct A;"),
            ("m/b", "use super::{c::{C, self as sea}, d::D}; fn run() { sea::sail(C) }"),
            ("m/c", "use super::a::A as B; pub struct C; pub fn sail(_: B) {}"),
            ("m/d", "pub struct D;"),
        ]);
        assert_eq!(said, ["m/a -> m/b: run", "m/b -> m/c: C, sail", "m/c -> m/a: A"]);
    }

    #[test]
    fn a_circle_through_what_mod_rs_gives_on() {
        let said = circles_of(&[
            ("m", "mod a; mod b; pub use a::A; pub use b::*;"),
            ("m/a", "use super::B; pub struct A(B);"),
            ("m/b", "use crate::m::A; pub struct B; impl B { fn f(_: A) {} }"),
        ]);
        assert_eq!(said, ["m/a -> m/b: B", "m/b -> m/a: A"]);
    }

    #[test]
    fn a_circle_of_mod_rs_and_what_it_gives_on_and_uses() {
        let files = |uses: &'static str| [("m", uses), ("m/a", "use super::Owned; pub struct A(Owned);")];
        assert_eq!(circles_of(&files("mod a; pub use a::A; pub struct Owned;")), [""; 0]);
        let said = circles_of(&files("mod a; pub use a::A; pub struct Owned; fn f(_: A) {}"));
        assert_eq!(said, ["m -> m/a: A", "m/a -> m: Owned"]);
    }

    #[test]
    fn a_declaration_is_no_use_and_neither_is_a_module_alone() {
        let said = circles_of(&[
            ("m", "mod a; pub mod b; pub use b as c; pub struct Error;"),
            ("m/a", "use super::Error; use super::b; pub(in crate::m) struct A(Error);"),
            ("m/b", "use super::a::A; pub struct B(A);"),
        ]);
        assert_eq!(said, [""; 0]);
    }

    #[test]
    fn tests_are_left_out_and_what_is_behind_them_is_not() {
        let files = |a: &'static str| [("m", "mod a; mod b;"), ("m/a", a), ("m/b", "use super::a::A; pub struct B;")];
        let said = circles_of(&files(
            "#[cfg(test)]\nuse super::b::B;\npub struct A;\n#[cfg(test)] mod tests { use super::super::b::B; }",
        ));
        assert_eq!(said, [""; 0]);
        let said = circles_of(&files("#[cfg(test)]\nuse std::fmt;\nuse super::b::B;\npub struct A(B);"));
        assert_eq!(said, ["m/a -> m/b: B", "m/b -> m/a: A"]);
    }

    #[test]
    fn circles_between_modules_are_the_layers_business() {
        let said = circles_of(&[("m", "use crate::n::N; struct M;"), ("n", "use crate::m::M; struct N;")]);
        assert_eq!(said, [""; 0]);
    }
}
