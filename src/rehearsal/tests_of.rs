//! Tests that a recipe's author writes with `std.test`: every case in a machine and on an engine of its own.

use std::sync::Arc;

use super::{bottle, left_behind, plan};
use crate::engine::fake::FakeEngine;
use crate::holder::{Drafts, unwind_all};
use crate::lua::{Program, Script, Vm};
use crate::plan::AgentTemplate;
use crate::session::Failure;

/// A case that was run.
pub struct Case {
    /// Its name.
    pub name: String,
    /// Why it failed, where it did.
    pub failure: Option<Failure>,
}

/// Runs every case of a file of tests, in order.
///
/// # Errors
/// The file itself cannot be run.
pub async fn run_tests(program: &Program, file: &Script) -> Result<Vec<Case>, Failure> {
    let mut cases = Vec::new();
    loop {
        let index = cases.len();
        let engine = FakeEngine::with_any_image();
        let plan = plan("probe", &AgentTemplate::probe());
        let bottle = bottle(&engine, program, plan, &Arc::default(), &Drafts::default());
        let vm = Vm::new(&bottle, program)?;
        let found = vm.execute(file).await;
        let case = match found {
            Ok(()) => vm.run_case(index).await,
            Err(failure) => Err(failure),
        };
        let undo = unwind_all(&bottle, &vm).await;
        let Some((name, outcome)) = case? else { return Ok(cases) };
        let left = engine.left();
        let failure = outcome.err().or_else(|| (!left.is_empty()).then(|| left_behind(&left)));
        let failed = undo.into_iter().find_map(|row| match row.outcome {
            crate::session::UndoOutcome::Failed(why) => {
                Some(Failure::new(crate::session::Class::Input, format!("{} {}: {why}", row.kind, row.name)))
            }
            _ => None,
        });
        cases.push(Case { name, failure: failure.or(failed) });
    }
}
