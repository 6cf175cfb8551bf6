//! Ways of writing that hide something: a branch, a name, an argument or a function.

use syn::spanned::Spanned;
use syn::visit::{self, Visit};
use syn::{Expr, ExprAssign, ExprMatch, FnArg, ItemFn, ItemImpl, Lit, Local, Pat, Signature, Type};

use super::Measured;
use super::sources::{Line, Source};

/// Counts each of these idioms.
pub(super) fn all(sources: &[Source]) -> Vec<Measured> {
    let mut found = Idioms::default();
    for source in sources {
        found.path.clone_from(&source.path);
        found.visit_file(&source.syntax);
    }
    vec![
        Measured::counted("match_on_bool", found.bool_matches),
        Measured::counted("tuple_parameters", found.tuple_parameters),
        Measured::counted("tuple_lets", found.tuple_lets),
        Measured::counted("closures_as_functions", found.closures),
    ]
}

#[derive(Default)]
struct Idioms {
    path: String,
    bool_matches: Vec<(Line, String)>,
    tuple_parameters: Vec<(Line, String)>,
    tuple_lets: Vec<(Line, String)>,
    closures: Vec<(Line, String)>,
}

impl Idioms {
    fn line(&self, node: &impl Spanned) -> Line {
        Line { path: self.path.clone(), number: node.span().start().line }
    }

    fn look_at_parameters(&mut self, signature: &Signature) {
        for parameter in &signature.inputs {
            if let FnArg::Typed(parameter) = parameter
                && is_tuple(&parameter.ty)
            {
                let what = format!("`{}` takes a tuple", signature.ident);
                self.tuple_parameters.push((self.line(parameter), what));
            }
        }
    }
}

impl<'ast> Visit<'ast> for Idioms {
    fn visit_expr_match(&mut self, expression: &'ast ExprMatch) {
        if expression.arms.iter().any(|arm| is_bool(&arm.pat)) {
            self.bool_matches.push((self.line(expression), "`match` on a bool".to_owned()));
        }
        visit::visit_expr_match(self, expression);
    }

    fn visit_item_fn(&mut self, item: &'ast ItemFn) {
        self.look_at_parameters(&item.sig);
        visit::visit_item_fn(self, item);
    }

    fn visit_item_impl(&mut self, item: &'ast ItemImpl) {
        // The signature of a trait's method is the trait's.
        if item.trait_.is_none() {
            for method in &item.items {
                if let syn::ImplItem::Fn(method) = method {
                    self.look_at_parameters(&method.sig);
                }
            }
        }
        visit::visit_item_impl(self, item);
    }

    fn visit_local(&mut self, local: &'ast Local) {
        if let Some(init) = &local.init {
            let line = self.line(local);
            match (&local.pat, &*init.expr) {
                (Pat::Tuple(_), Expr::Tuple(_)) if init.diverge.is_none() => {
                    self.tuple_lets.push((line, "a `let` binds several things".to_owned()));
                }
                (Pat::Ident(name), Expr::Closure(closure)) => {
                    let end = closure.span().end().line;
                    if end > closure.span().start().line {
                        self.closures.push((line, format!("`{}` could be a function", name.ident)));
                    }
                }
                _ => {}
            }
        }
        visit::visit_local(self, local);
    }

    fn visit_expr_assign(&mut self, assignment: &'ast ExprAssign) {
        if let (Expr::Tuple(_), Expr::Tuple(_)) = (&*assignment.left, &*assignment.right) {
            self.tuple_lets.push((self.line(assignment), "an assignment sets several things".to_owned()));
        }
        visit::visit_expr_assign(self, assignment);
    }
}

fn is_tuple(of: &Type) -> bool {
    match of {
        Type::Tuple(tuple) => !tuple.elems.is_empty(),
        Type::Reference(reference) => is_tuple(&reference.elem),
        _ => false,
    }
}

fn is_bool(pattern: &Pat) -> bool {
    match pattern {
        Pat::Lit(literal) => matches!(literal.lit, Lit::Bool(_)),
        Pat::Or(several) => several.cases.iter().any(is_bool),
        _ => false,
    }
}
