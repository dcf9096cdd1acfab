//! Walks a script's syntax tree and tracks which locals are in scope and, if that is evident, which handles they
//! hold.

use std::collections::BTreeMap;

use full_moon::ast::{
    Block, Call, Expression, Field, FunctionArgs, FunctionBody, FunctionCall, Index, LastStmt, Parameter, Prefix, Stmt,
    Suffix, TableConstructor, Var,
};
use full_moon::tokenizer::TokenReference;

use super::known::{Finding, Known};
use crate::lua::globals::globals;
use crate::lua::reference::Class;
use crate::suggest::nearest;

/// The kind of handle that a local holds; `None` if that is not evident.
type Handle = Option<String>;

pub(super) struct Walk<'a> {
    known: &'a Known,
    scopes: Vec<BTreeMap<String, Handle>>,
    pub(super) found: Vec<Finding>,
}

impl<'a> Walk<'a> {
    pub(super) fn new(known: &'a Known) -> Self {
        Self { known, scopes: vec![BTreeMap::new()], found: Vec::new() }
    }

    pub(super) fn block(&mut self, block: &Block) {
        self.scopes.push(BTreeMap::new());
        self.statements(block);
        self.scopes.pop();
    }

    fn statements(&mut self, block: &Block) {
        for statement in block.stmts() {
            self.statement(statement);
        }
        if let Some(LastStmt::Return(last)) = block.last_stmt() {
            last.returns().iter().for_each(|value| self.expression(value));
        }
    }

    fn statement(&mut self, statement: &Stmt) {
        match statement {
            Stmt::Assignment(it) => {
                it.expressions().iter().for_each(|value| self.expression(value));
                it.variables().iter().for_each(|var| self.assigned(var));
            }
            Stmt::LocalAssignment(it) => {
                it.expressions().iter().for_each(|value| self.expression(value));
                let mut values = it.expressions().iter();
                for name in it.names() {
                    let handle = values.next().and_then(|value| self.handle(value));
                    self.declare(name, handle);
                }
            }
            Stmt::FunctionCall(it) => self.call(it),
            Stmt::Do(it) => self.block(it.block()),
            Stmt::While(it) => {
                self.expression(it.condition());
                self.block(it.block());
            }
            Stmt::Repeat(it) => {
                // The condition can use the block's locals.
                self.scopes.push(BTreeMap::new());
                self.statements(it.block());
                self.expression(it.until());
                self.scopes.pop();
            }
            Stmt::If(it) => {
                self.expression(it.condition());
                self.block(it.block());
                for branch in it.else_if().into_iter().flatten() {
                    self.expression(branch.condition());
                    self.block(branch.block());
                }
                if let Some(block) = it.else_block() {
                    self.block(block);
                }
            }
            Stmt::NumericFor(it) => {
                [Some(it.start()), Some(it.end()), it.step()]
                    .into_iter()
                    .flatten()
                    .for_each(|value| self.expression(value));
                self.with([it.index_variable()], it.block());
            }
            Stmt::GenericFor(it) => {
                it.expressions().iter().for_each(|value| self.expression(value));
                self.with(it.names(), it.block());
            }
            Stmt::LocalFunction(it) => {
                self.declare(it.name(), None);
                self.function(it.body(), false);
            }
            Stmt::FunctionDeclaration(it) => {
                let names = it.name().names();
                let plain = names.len() == 1 && it.name().method_name().is_none();
                if let Some(name) = names.iter().next() {
                    if plain { self.written(name) } else { self.name(name) }
                }
                self.function(it.body(), it.name().method_name().is_some());
            }
            _ => {}
        }
    }

    fn with<'t>(&mut self, names: impl IntoIterator<Item = &'t TokenReference>, block: &Block) {
        self.scopes.push(BTreeMap::new());
        for name in names {
            self.declare(name, None);
        }
        self.statements(block);
        self.scopes.pop();
    }

    fn function(&mut self, body: &FunctionBody, has_self: bool) {
        self.scopes.push(BTreeMap::new());
        if has_self {
            self.scopes.last_mut().into_iter().for_each(|scope| drop(scope.insert("self".into(), None)));
        }
        for parameter in body.parameters() {
            if let Parameter::Name(name) = parameter {
                self.declare(name, None);
            }
        }
        self.statements(body.block());
        self.scopes.pop();
    }

    fn declare(&mut self, name: &TokenReference, handle: Handle) {
        if let Some(scope) = self.scopes.last_mut() {
            scope.insert(text(name), handle);
        }
    }

    fn local(&self, name: &str) -> Option<&Handle> {
        self.scopes.iter().rev().find_map(|scope| scope.get(name))
    }

    fn expression(&mut self, value: &Expression) {
        match value {
            Expression::BinaryOperator { lhs, rhs, .. } => {
                self.expression(lhs);
                self.expression(rhs);
            }
            Expression::Parentheses { expression, .. } | Expression::UnaryOperator { expression, .. } => {
                self.expression(expression);
            }
            Expression::Function(it) => self.function(it.body(), false),
            Expression::FunctionCall(it) => self.call(it),
            Expression::TableConstructor(it) => self.table(it),
            Expression::Var(Var::Name(name)) => self.name(name),
            Expression::Var(Var::Expression(it)) => self.chain(it.prefix(), it.suffixes()),
            _ => {}
        }
    }

    fn table(&mut self, table: &TableConstructor) {
        for field in table.fields() {
            match field {
                Field::ExpressionKey { key, value, .. } => {
                    self.expression(key);
                    self.expression(value);
                }
                Field::NameKey { value, .. } => self.expression(value),
                Field::NoKey(value) => self.expression(value),
                _ => {}
            }
        }
    }

    fn assigned(&mut self, var: &Var) {
        match var {
            Var::Name(name) => self.written(name),
            Var::Expression(it) => self.chain(it.prefix(), it.suffixes()),
            _ => {}
        }
    }

    fn written(&mut self, name: &TokenReference) {
        let text = text(name);
        if self.local(&text).is_none() {
            self.find(name, format!("cannot make a global {text}"), Some(format!("write local {text}")));
        }
    }

    fn name(&mut self, name: &TokenReference) {
        let text = text(name);
        if self.local(&text).is_none() && !globals().any(|known| known == text) {
            let hint = nearest(&text, globals()).map(|near| format!("did you mean {near}?"));
            self.find(name, format!("there is no global {text}"), hint);
        }
    }

    fn call(&mut self, call: &FunctionCall) {
        self.chain(call.prefix(), call.suffixes());
    }

    /// Checks a prefix expression with its suffixes: fields, indices and calls.
    fn chain<'t>(&mut self, prefix: &Prefix, suffixes: impl Iterator<Item = &'t Suffix>) {
        // The dotted name so far, as in the reference, and the kind of handle.
        let (mut path, mut handle) = (None, None);
        match prefix {
            Prefix::Name(name) => {
                self.name(name);
                match self.local(&text(name)) {
                    Some(known) => handle.clone_from(known),
                    None => path = Some(text(name)),
                }
            }
            Prefix::Expression(value) => {
                self.expression(value);
                handle = self.handle(value);
            }
            _ => {}
        }
        for suffix in suffixes {
            match suffix {
                Suffix::Index(Index::Dot { name, .. }) => {
                    if let Some(class) = handle.take().and_then(|name| self.known.classes.get(&name)) {
                        self.member(class, name);
                    }
                    path = path.map(|path| format!("{path}.{}", text(name)));
                }
                Suffix::Index(Index::Brackets { expression, .. }) => {
                    self.expression(expression);
                    (path, handle) = (None, None);
                }
                Suffix::Call(Call::AnonymousCall(arguments)) => {
                    let function = path.take().and_then(|path| self.known.functions.get(path.as_str()).copied());
                    self.arguments(arguments, function.map(|function| function.params));
                    handle = function.map(|function| function.returns.to_owned());
                }
                Suffix::Call(Call::MethodCall(call)) => {
                    let class = handle.take().and_then(|name| self.known.classes.get(&name));
                    let method = class.and_then(|class| {
                        let found = class.methods.iter().find(|method| method.name == text(call.name()));
                        if found.is_none() {
                            self.member(class, call.name());
                        }
                        found
                    });
                    self.arguments(call.args(), method.map(|method| method.params));
                    (path, handle) = (None, method.map(|method| method.returns.to_owned()));
                }
                _ => {}
            }
        }
    }

    /// Checks a field or method of a handle.
    fn member(&mut self, class: &Class, name: &TokenReference) {
        let wanted = text(name);
        let names = || class.fields.iter().map(|field| field.name.as_str()).chain(class.methods.iter().map(|m| m.name));
        if !names().any(|known| known == wanted) {
            let hint = nearest(&wanted, names()).map(|near| format!("did you mean {near}?"));
            let message =
                format!("{} has no {wanted}; there are {}", class.name, names().collect::<Vec<_>>().join(", "));
            self.find(name, message, hint);
        }
    }

    fn arguments(&mut self, arguments: &FunctionArgs, params: Option<&[crate::lua::reference::Param]>) {
        match arguments {
            FunctionArgs::Parentheses { arguments, .. } => {
                for (index, value) in arguments.iter().enumerate() {
                    let param = params.and_then(|params| params.get(index));
                    if let (Some(param), Expression::TableConstructor(table)) = (param, value) {
                        self.options(table, param.ty);
                    }
                    self.expression(value);
                }
            }
            FunctionArgs::TableConstructor(table) => {
                if let Some(param) = params.and_then(<[_]>::first) {
                    self.options(table, param.ty);
                }
                self.table(table);
            }
            _ => {}
        }
    }

    /// Checks a literal table of options: its names must belong to one of the classes, and required names must be
    /// present.
    fn options(&mut self, table: &TableConstructor, ty: &str) {
        let known = self.known;
        let classes: Vec<&Class> = known.classes_of(ty).into_iter().filter(|class| class.written).collect();
        let keys: Vec<(&TokenReference, &Expression)> = table
            .fields()
            .iter()
            .filter_map(|field| match field {
                Field::NameKey { key, value, .. } => Some((key, value.as_ref())),
                _ => None,
            })
            .collect();
        let has = |class: &Class, name: &str| class.fields.iter().any(|field| field.name == name);
        // Of several classes, take the one with most of the names: `image` makes a sidecar an ordinary service.
        let fit = |class: &&Class| keys.iter().filter(|(key, _)| has(class, &text(key))).count();
        let Some(class) = classes.into_iter().rev().max_by_key(fit) else { return };
        for (key, value) in keys {
            let name = text(key);
            let Some(field) = class.fields.iter().find(|field| field.name == name) else {
                let names = || class.fields.iter().map(|field| field.name.as_str());
                let hint = nearest(&name, names()).map(|near| format!("did you mean {near}?"));
                let message =
                    format!("there is no option {name}; there are {}", names().collect::<Vec<_>>().join(", "));
                self.find(key, message, hint);
                continue;
            };
            if let Some(given) = literal(value)
                && !accepts(&field.ty, given)
            {
                self.find(key, format!("option {name} takes {}, not a {given}", field.ty), None);
            }
            if let Expression::TableConstructor(inner) = value {
                self.options(inner, &field.ty);
            }
        }
    }

    /// The kind of handle that an expression returns, if that is evident: the call of a primitive.
    fn handle(&self, value: &Expression) -> Handle {
        let Expression::FunctionCall(call) = value else { return None };
        let Prefix::Name(name) = call.prefix() else { return None };
        let name = text(name);
        let mut suffixes = call.suffixes();
        let (first, second) = (suffixes.next(), suffixes.next());
        if !matches!(first, Some(Suffix::Call(Call::AnonymousCall(_))))
            || second.is_some()
            || self.local(&name).is_some()
        {
            return None;
        }
        let function = self.known.functions.get(name.as_str())?;
        self.known.classes.contains_key(function.returns).then(|| function.returns.to_owned())
    }

    fn find(&mut self, at: &TokenReference, message: String, hint: Option<String>) {
        self.found.push(Finding { line: at.token().start_position().line(), message, hint });
    }
}

fn text(name: &TokenReference) -> String {
    name.token().to_string()
}

/// The Lua type of a literal.
fn literal(value: &Expression) -> Option<&'static str> {
    match value {
        Expression::Number(_) => Some("number"),
        Expression::String(_) => Some("string"),
        Expression::Function(_) => Some("function"),
        Expression::TableConstructor(_) => Some("table"),
        Expression::Symbol(token) if matches!(text(token).as_str(), "true" | "false") => Some("boolean"),
        _ => None,
    }
}

/// Whether a type accepts a literal of a Lua type.
fn accepts(ty: &str, given: &str) -> bool {
    let one = |ty: &str| match given {
        "number" => ty == "number" || ty == "integer",
        "string" => ty == "string" || ty.starts_with('"'),
        "boolean" => ty == "boolean",
        "function" => ty.starts_with("fun("),
        _ => ty.ends_with("[]") || ty.starts_with("table") || ty.starts_with('{') || ty.starts_with(char::is_uppercase),
    };
    ty == "any"
        || ty.contains("any")
        || ty.trim_matches(['(', ')']).split('|').any(|ty| one(ty.trim_matches(['(', ')'])))
        || ty.split('|').any(one)
}
