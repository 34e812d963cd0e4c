//! A small YANG reader: statements, typedefs and groupings, as far as `yang/` uses them.
//!
//! That the modules are valid YANG is tested with libyang; this only makes their content available.

use std::collections::HashMap;
use std::path::Path;

/// One statement.
#[derive(Clone, Debug)]
pub struct Statement {
    pub keyword: String,
    pub argument: String,
    pub children: Vec<Statement>,
}

impl Statement {
    pub fn all<'a>(&'a self, keyword: &'a str) -> impl Iterator<Item = &'a Statement> {
        self.children.iter().filter(move |child| child.keyword == keyword)
    }

    pub fn argument_of(&self, keyword: &str) -> Option<String> {
        self.all(keyword).next().map(|child| child.argument.clone())
    }
}

/// A type with everything that restricts it.
#[derive(Clone, Debug, Default)]
pub struct Type {
    /// The typedef, or the built-in type.
    pub name: String,
    /// The built-in or imported type.
    pub base: String,
    pub range: Option<String>,
    pub length: Option<String>,
    pub pattern: Option<String>,
    pub path: Option<String>,
    pub enums: Vec<(String, String)>,
    pub members: Vec<Type>,
    /// The description of the typedef.
    pub description: String,
}

/// What kind of node it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Container,
    Presence,
    List,
    Leaf,
    LeafList,
}

/// One data node, groupings and choices resolved.
#[derive(Clone, Debug)]
pub struct Node {
    pub name: String,
    pub kind: Kind,
    pub ty: Option<Type>,
    pub default: Option<String>,
    pub units: Option<String>,
    pub mandatory: bool,
    pub keys: Vec<String>,
    pub max: Option<usize>,
    pub description: String,
    pub rules: Vec<String>,
    /// Set when it is one of several that exclude each other.
    pub choice: Option<String>,
    pub children: Vec<Node>,
}

/// Reads all modules of a directory and returns the top-level node of `fairway.yang`.
pub fn load(directory: &Path) -> Node {
    let mut files: Vec<_> =
        std::fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.retain(|file| file.extension().is_some_and(|extension| extension == "yang"));
    files.sort();
    let modules: Vec<Statement> =
        files.iter().map(|file| parse(&std::fs::read_to_string(file).unwrap())).collect();
    let mut resolver = Resolver { typedefs: HashMap::new(), groupings: HashMap::new() };
    for module in &modules {
        resolver.typedefs.extend(module.all("typedef").map(|typedef| (typedef.argument.clone(), typedef)));
        resolver
            .groupings
            .extend(module.all("grouping").map(|grouping| (grouping.argument.clone(), grouping)));
    }
    let main = modules.iter().find(|module| module.keyword == "module").unwrap();
    let mut nodes = resolver.nodes(main, None);
    assert_eq!(nodes.len(), 1);
    nodes.remove(0)
}

struct Resolver<'a> {
    typedefs: HashMap<String, &'a Statement>,
    groupings: HashMap<String, &'a Statement>,
}

impl Resolver<'_> {
    fn nodes(&self, parent: &Statement, choice: Option<&str>) -> Vec<Node> {
        let mut nodes = Vec::new();
        for child in &parent.children {
            match child.keyword.as_str() {
                "uses" => nodes.extend(self.nodes(self.groupings[&child.argument], choice)),
                "choice" => nodes.extend(self.nodes(child, Some(&child.argument))),
                "container" | "list" | "leaf" | "leaf-list" => nodes.push(self.node(child, choice)),
                _ => {}
            }
        }
        nodes
    }

    fn node(&self, statement: &Statement, choice: Option<&str>) -> Node {
        let kind = match statement.keyword.as_str() {
            "list" => Kind::List,
            "leaf" => Kind::Leaf,
            "leaf-list" => Kind::LeafList,
            _ if statement.all("presence").next().is_some() => Kind::Presence,
            _ => Kind::Container,
        };
        let keys = statement.argument_of("key").unwrap_or_default();
        let mut rules: Vec<String> =
            statement.all("must").map(|must| must.argument_of("error-message").unwrap()).collect();
        rules.dedup();
        Node {
            name: statement.argument.clone(),
            kind,
            ty: statement.all("type").next().map(|ty| self.ty(ty)),
            default: statement.argument_of("default"),
            units: statement.argument_of("units"),
            mandatory: statement.argument_of("mandatory").is_some_and(|value| value == "true"),
            keys: keys.split_whitespace().map(str::to_owned).collect(),
            max: statement.argument_of("max-elements").map(|max| max.parse().unwrap()),
            description: statement.argument_of("description").unwrap(),
            rules,
            choice: choice.map(str::to_owned),
            children: self.nodes(statement, None),
        }
    }

    fn ty(&self, statement: &Statement) -> Type {
        let name = statement.argument.clone();
        let mut ty = match self.typedefs.get(&name) {
            Some(typedef) => {
                let inner = self.ty(typedef.all("type").next().unwrap());
                Type { name, description: typedef.argument_of("description").unwrap(), ..inner }
            }
            None => Type { base: name.clone(), name, ..Type::default() },
        };
        ty.range = statement.argument_of("range").or(ty.range);
        ty.length = statement.argument_of("length").or(ty.length);
        ty.pattern = statement.argument_of("pattern").or(ty.pattern);
        ty.path = statement.argument_of("path").or(ty.path);
        for word in statement.all("enum") {
            ty.enums.push((word.argument.clone(), word.argument_of("description").unwrap()));
        }
        ty.members.extend(statement.all("type").map(|member| self.ty(member)));
        ty
    }
}

#[derive(Debug, PartialEq)]
enum Token {
    Text(String),
    Open,
    Close,
    End,
}

fn parse(source: &str) -> Statement {
    let tokens = tokens(source);
    let mut position = 0;
    let mut statements = statements(&tokens, &mut position);
    assert_eq!((position, statements.len()), (tokens.len(), 1));
    statements.remove(0)
}

fn statements(tokens: &[Token], position: &mut usize) -> Vec<Statement> {
    let mut statements = Vec::new();
    while let Some(Token::Text(keyword)) = tokens.get(*position) {
        *position += 1;
        let mut argument = String::new();
        if let Some(Token::Text(text)) = tokens.get(*position) {
            argument.clone_from(text);
            *position += 1;
        }
        let mut children = Vec::new();
        match tokens.get(*position) {
            Some(Token::End) => *position += 1,
            Some(Token::Open) => {
                *position += 1;
                children = self::statements(tokens, position);
                assert_eq!(tokens.get(*position), Some(&Token::Close), "in {keyword} {argument}");
                *position += 1;
            }
            other => panic!("{other:?} after {keyword} {argument}"),
        }
        statements.push(Statement { keyword: keyword.clone(), argument, children });
    }
    statements
}

fn tokens(source: &str) -> Vec<Token> {
    let mut tokens = Vec::new();
    let mut rest = source.trim_start();
    while let Some(first) = rest.chars().next() {
        let (token, length) = match first {
            '{' => (Token::Open, 1),
            '}' => (Token::Close, 1),
            ';' => (Token::End, 1),
            '"' | '\'' => {
                let end = rest[1..].find(first).unwrap();
                (Token::Text(folded(&rest[1..=end])), end + 2)
            }
            _ => {
                let end = rest.find(|c: char| c.is_whitespace() || "{};".contains(c)).unwrap();
                (Token::Text(rest[..end].to_owned()), end)
            }
        };
        tokens.push(token);
        rest = rest[length..].trim_start();
    }
    tokens
}

/// Joins the lines of a paragraph; paragraphs stay apart by an empty line.
fn folded(text: &str) -> String {
    let paragraphs =
        text.split("\n\n").map(|paragraph| paragraph.split_whitespace().collect::<Vec<_>>().join(" "));
    paragraphs.collect::<Vec<_>>().join("\n\n")
}
