//! `bottler git`: pushes that the git gate has refused, and the operator's approval.

use super::bottle::find::FoundBottle;
use super::open::check_running;
use super::print::{Format, print_data, print_message};
use crate::holder::approve_push;
use crate::primitive::ask_sidecar;
use crate::report::{ascii_json, escaped};
use crate::session::{Class, Failure};
use crate::sidecar::git_gate::{Approval, Ask, Gate, Offer};

/// What `git` takes.
#[derive(clap::Args)]
pub(super) struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(clap::Subcommand)]
enum Command {
    /// List refused pushes that may be approved
    Requests {
        /// The bottle's id
        bottle: String,
        /// The output format
        #[arg(long, value_enum, default_value = "text")]
        format: Format,
    },
    /// Let a refused push pass when the agent repeats it: exactly what was found, and nothing else
    Approve {
        /// The bottle's id
        bottle: String,
        /// The id in the refusal
        id: String,
        /// For as long as the bottle lives, not only for one push
        #[arg(long)]
        bottle_wide: bool,
    },
}

pub(super) async fn main(args: &Args) -> Result<u8, Failure> {
    match &args.command {
        Command::Requests { bottle, format } => {
            let found = FoundBottle::living(bottle).await?;
            let offers = ask_sidecar::<Gate>(&found.engine, bottle, &found.state.owner, Ask::Offers).await?;
            show(&offers, *format)?;
        }
        Command::Approve { bottle, id, bottle_wide } => {
            let known = FoundBottle::find(bottle)?;
            check_running(&known.state, bottle)?;
            let found = FoundBottle::living(bottle).await?;
            let offers = ask_sidecar::<Gate>(&found.engine, bottle, &found.state.owner, Ask::Offers).await?;
            if let Some(offer) = offers.iter().find(|offer| offer.id == *id) {
                print_message(&format!("releases {}", text(offer).trim_end()));
            }
            let approval = Approval { id: id.clone(), once: !bottle_wide };
            approve_push(bottle, &known.state.bottle(bottle), approval).await?;
            let holds = if *bottle_wide { "until the bottle ends" } else { "for one push" };
            print_message(&format!("{id} is approved {holds}; the agent can push again"));
        }
    }
    Ok(0)
}

fn show(offers: &[Offer], format: Format) -> Result<(), Failure> {
    if format == Format::Json {
        let text =
            serde_json::to_string_pretty(offers).map_err(|error| Failure::new(Class::Internal, error.to_string()))?;
        print_data(&format!("{}\n", ascii_json(&text)));
        return Ok(());
    }
    for offer in offers {
        print_data(&text(offer));
    }
    Ok(())
}

/// A refused push with everything that an approval would release: nothing is shortened.
fn text(offer: &Offer) -> String {
    let head = format!("{}: to {}, {}", offer.id, offer.repository, offer.refs.join(", "));
    let lines = std::iter::once(head).chain(offer.reasons.iter().map(|reason| format!("  {reason}")));
    lines.flat_map(|line| [escaped(&line, usize::MAX), "\n".to_owned()]).collect()
}
