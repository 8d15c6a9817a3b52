//! Rust source as a list of names: what it imports and which paths it spells, where. Comments and strings are no names;
//! what stands inside macro calls is.

use proc_macro2::{Delimiter, Spacing, TokenStream, TokenTree};

/// A path that a file spells, with what a reader of the file takes it to mean.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mention {
    pub line: usize,
    /// From the crate's name on: `crate::`, `self::` and `super::` are resolved. `*` stands last for a glob import.
    pub path: Vec<String>,
    /// Whether it stands in a `use` or `extern crate`.
    pub imported: bool,
}

/// The names in one file.
#[derive(Debug, Default)]
pub struct Names {
    pub mentions: Vec<Mention>,
    /// Lines with the keyword `unsafe`.
    pub unsafes: Vec<usize>,
}

/// Reads the source of the module `module` (from the crate's name on, for example `["gateway", "store"]`).
pub fn names(source: &str, module: &[String]) -> Result<Names, String> {
    let tokens: TokenStream = source.parse().map_err(|error| format!("is no Rust: {error}"))?;
    let mut names = Names::default();
    Scope { module: module.to_vec() }.read(tokens, &mut names);
    Ok(names)
}

/// Where the tokens stand.
struct Scope {
    module: Vec<String>,
}

impl Scope {
    fn read(&self, tokens: TokenStream, names: &mut Names) {
        let tokens: Vec<TokenTree> = tokens.into_iter().collect();
        let mut at = 0;
        while at < tokens.len() {
            at = self.read_one(&tokens, at, names);
        }
    }

    /// Reads what begins at `at` and gives the place behind it.
    fn read_one(&self, tokens: &[TokenTree], at: usize, names: &mut Names) -> usize {
        match &tokens[at] {
            TokenTree::Group(group) => {
                self.read(group.stream(), names);
                at + 1
            }
            TokenTree::Ident(word) if word == "unsafe" => {
                names.unsafes.push(word.span().start().line);
                at + 1
            }
            TokenTree::Ident(word) if word == "use" => self.read_use(tokens, at + 1, names),
            TokenTree::Ident(word) if word == "mod" => self.read_mod(tokens, at, names),
            TokenTree::Ident(word) if word == "extern" => self.read_extern(tokens, at, names),
            TokenTree::Ident(_) => self.read_path(tokens, at, names),
            TokenTree::Punct(_) | TokenTree::Literal(_) => at + 1,
        }
    }

    /// `mod name { … }`: `self` and `super` mean something else inside.
    fn read_mod(&self, tokens: &[TokenTree], at: usize, names: &mut Names) -> usize {
        let (Some(TokenTree::Ident(name)), Some(TokenTree::Group(body))) = (tokens.get(at + 1), tokens.get(at + 2))
        else {
            return at + 1;
        };
        let mut module = self.module.clone();
        module.push(name.to_string());
        Scope { module }.read(body.stream(), names);
        at + 3
    }

    /// `extern crate name`.
    fn read_extern(&self, tokens: &[TokenTree], at: usize, names: &mut Names) -> usize {
        if let (Some(TokenTree::Ident(word)), Some(TokenTree::Ident(name))) = (tokens.get(at + 1), tokens.get(at + 2))
            && word == "crate"
        {
            let line = name.span().start().line;
            names.mentions.push(Mention { line, path: vec![name.to_string()], imported: true });
            return at + 3;
        }
        at + 1
    }

    /// `a::b::{c, d as e, f::*};` up to the semicolon. A `use<…>` of captured lifetimes has no path and adds nothing.
    fn read_use(&self, tokens: &[TokenTree], at: usize, names: &mut Names) -> usize {
        let is_end = |token: &TokenTree| matches!(token, TokenTree::Punct(mark) if matches!(mark.as_char(), ';' | '<'));
        let length = tokens[at..].iter().position(is_end).unwrap_or(tokens.len() - at);
        self.read_tree(&tokens[at..at + length], &[], names);
        at + length
    }

    fn read_tree(&self, tokens: &[TokenTree], prefix: &[String], names: &mut Names) {
        for branch in tokens.split(|token| matches!(token, TokenTree::Punct(mark) if mark.as_char() == ',')) {
            let mut path = prefix.to_vec();
            let mut line = 0;
            let mut is_leaf = true;
            for token in branch {
                match token {
                    TokenTree::Ident(word) if word == "as" => break,
                    TokenTree::Ident(word) => path.push(word.to_string()),
                    TokenTree::Punct(mark) if mark.as_char() == '*' => path.push("*".to_owned()),
                    TokenTree::Group(group) if group.delimiter() == Delimiter::Brace => {
                        let inner: Vec<TokenTree> = group.stream().into_iter().collect();
                        self.read_tree(&inner, &path, names);
                        is_leaf = false;
                    }
                    _ => {}
                }
                line = token.span().start().line;
            }
            if is_leaf && path.len() > prefix.len() {
                names.mentions.push(Mention { line, path: self.resolved(path), imported: true });
            }
        }
    }

    /// `a::b::<T>::c` in an expression, type, attribute or macro call; a single word is no path.
    fn read_path(&self, tokens: &[TokenTree], at: usize, names: &mut Names) -> usize {
        let mut path = Vec::new();
        let mut next = at;
        while let Some(TokenTree::Ident(word)) = tokens.get(next) {
            path.push(word.to_string());
            next += 1;
            if !is_double_colon(&tokens[next..]) {
                break;
            }
            next += 2;
        }
        if path.len() > 1 || next > at + 1 {
            let line = tokens[at].span().start().line;
            names.mentions.push(Mention { line, path: self.resolved(path), imported: false });
        }
        next
    }

    fn resolved(&self, path: Vec<String>) -> Vec<String> {
        let mut absolute = match path.first().map(String::as_str) {
            Some("crate" | "$crate") => self.module[..1].to_vec(),
            Some("self" | "super") => self.module.clone(),
            _ => return path,
        };
        for segment in path {
            match segment.as_str() {
                "crate" | "$crate" | "self" => {}
                "super" if absolute.len() > 1 => {
                    absolute.pop();
                }
                "super" => {}
                _ => absolute.push(segment),
            }
        }
        absolute
    }
}

fn is_double_colon(tokens: &[TokenTree]) -> bool {
    matches!(tokens, [TokenTree::Punct(first), TokenTree::Punct(second), ..]
        if first.as_char() == ':' && first.spacing() == Spacing::Joint && second.as_char() == ':')
}

#[cfg(test)]
mod tests {
    use super::*;

    fn paths(source: &str) -> Vec<String> {
        let module = ["gateway".to_owned(), "terminals".to_owned(), "hub".to_owned()];
        names(source, &module).unwrap().mentions.into_iter().map(|mention| mention.path.join("::")).collect()
    }

    #[test]
    fn imports_are_followed_through_braces_renames_and_relative_paths() {
        assert_eq!(paths("use a::{b, c::{d as e, f::*}, self};"), ["a::b", "a::c::d", "a::c::f::*", "a::self"]);
        assert_eq!(paths("use super::super::upload;"), ["gateway::upload"]);
        assert_eq!(paths("use crate::{store, self as all};"), ["gateway::store", "gateway"]);
        assert_eq!(paths("pub(crate) use ::sled as disk;"), ["sled"]);
        assert_eq!(paths("extern crate sled;"), ["sled"]);
    }

    #[test]
    fn paths_are_found_in_code_types_attributes_and_macro_calls() {
        assert_eq!(paths("fn f() -> sled::Db { x }"), ["sled::Db"]);
        assert_eq!(paths("fn f() { select! { _ = crate::upload::run() => {} } }"), ["gateway::upload::run"]);
        assert_eq!(paths("#[derive(serde::Serialize)] struct S;"), ["serde::Serialize"]);
        assert_eq!(paths("fn f() { Vec::<sled::Tree>::new() }"), ["Vec", "sled::Tree"]);
        assert_eq!(
            paths("mod tests { use super::*; fn f() { super::super::upload::x() } }"),
            ["gateway::terminals::hub::*", "gateway::terminals::upload::x"]
        );
    }

    #[test]
    fn comments_and_strings_are_no_names() {
        assert_eq!(
            paths("//! sled::Db\n/* use sled; */ /// [`crate::upload`]\nfn f() { \"use sled::Db;\"; }"),
            [""; 0]
        );
        assert_eq!(names("// unsafe\nfn f() { \"unsafe\"; }", &[]).unwrap().unsafes, [0; 0]);
        assert_eq!(names("\nfn f() { unsafe {} }", &[]).unwrap().unsafes, [2]);
    }
}
