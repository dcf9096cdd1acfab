//! `bottler gc`: removes what dead bottles left behind, and on request cached images or another owner's bottles.

use std::sync::Arc;

use crate::cli::open::engines;
use crate::cli::print::{Format, print_data, print_json, print_message};
use crate::engine::{Engine, ErrorKind};
use crate::report::{not_undone, printable, table};
use crate::session::gc::{Collection, collect, collect_foreign};
use crate::session::{Class, Failure, UndoOutcome, UndoRow};

/// What `gc` takes.
#[derive(clap::Args)]
pub(in crate::cli) struct Args {
    /// Print what would be removed, and remove nothing
    #[arg(long)]
    dry_run: bool,
    /// Also remove cached images
    #[arg(long)]
    cache: bool,
    /// Remove the bottles of another owner, named by the label dev.bottler.owner; they may still be running
    #[arg(long, value_name = "ID")]
    foreign: Option<String>,
    /// The output format
    #[arg(long, value_enum, default_value = "text")]
    format: Format,
}

pub(in crate::cli) async fn main(args: &Args) -> Result<u8, Failure> {
    let (engines, state) = engines().await?;
    let (mut collection, mut images) = (Collection::default(), Vec::new());
    for (endpoint, engine) in &engines {
        if let Some(owner) = &args.foreign {
            collection.bottles.extend(collect_foreign(engine, owner, args.dry_run).await?);
        } else {
            let collected = collect(engine, endpoint, &state, args.dry_run).await;
            collection.add(
                collected
                    .map_err(|error| Failure::new(Class::Operation, format!("collect dead bottles: {error:#}")))?,
            );
        }
        if args.cache {
            images.extend(cache(engine, args.dry_run).await?);
        }
    }
    print(args, &collection, &images)?;
    let failed = collection.bottles.iter().flat_map(|bottle| &bottle.undo).any(UndoRow::is_left);
    Ok(if failed || !collection.troubles.is_empty() { Class::Operation.exit_code() } else { 0 })
}

/// Removes cached images; one that a bottle uses stays.
async fn cache(engine: &Arc<dyn Engine>, dry_run: bool) -> Result<Vec<String>, Failure> {
    let mut removed = Vec::new();
    for tag in engine.image_cache().await? {
        if !dry_run {
            match engine.image_remove(&tag).await {
                Err(error) if error.kind == ErrorKind::InUse || error.message.contains("conflict") => continue,
                answer => drop(answer?),
            }
        }
        removed.push(tag);
    }
    Ok(removed)
}

fn print(args: &Args, collection: &Collection, images: &[String]) -> Result<(), Failure> {
    let Collection { bottles: collected, troubles, strays } = collection;
    if args.format == Format::Json {
        return print_json(&serde_json::json!({
            "dry_run": args.dry_run, "bottles": collected, "images": images, "troubles": troubles, "strays": strays,
        }));
    }
    for trouble in troubles {
        print_message(&printable(&format!("not collected: {trouble}")));
    }
    for stray in strays {
        let path = stray.path.display();
        print_message(&printable(&format!(
            "left alone: {path} belongs to no bottle: {}; remove it yourself if nothing needs it",
            stray.why
        )));
    }
    for bottle in collected {
        if let Some(left) = not_undone(&bottle.undo) {
            print_message(&left);
        }
    }
    let mut rows = Vec::new();
    for bottle in collected {
        rows.push(vec![
            bottle.bottle.clone(),
            "bottle".into(),
            match bottle.undo.iter().any(UndoRow::is_left) {
                _ if args.dry_run => "dead".into(),
                true => "not all".into(),
                false => "collected".into(),
            },
        ]);
        for row in &bottle.undo {
            let outcome = match &row.outcome {
                UndoOutcome::Removed | UndoOutcome::Completed => "removed".to_owned(),
                UndoOutcome::WasGone => "was gone".to_owned(),
                UndoOutcome::Failed(_) => "failed".to_owned(),
            };
            rows.push(vec![format!("  {}", row.name), row.kind.clone(), outcome]);
        }
    }
    let outcome = if args.dry_run { "cached" } else { "removed" };
    rows.extend(images.iter().map(|tag| vec![tag.clone(), "image".into(), outcome.into()]));
    if rows.is_empty() {
        print_message("nothing to collect");
    } else {
        print_data(&table(&["NAME", "KIND", "OUTCOME"], &rows));
    }
    Ok(())
}
