//! `nadgrid plan`.

use crate::cli::args::PlanArgs;
use crate::cli::spec_file::load;
use crate::cli::{Failure, output, tables};
use nadgrid_client::{Address, Client, PlanView};
use nadgrid_core::cost::{Rates, Sizing};
use nadgrid_core::plan::Plan;
use nadgrid_core::spec::{Inputs, Spec};

/// Prints an estimate of a sweep: on the coordinator that was named, else on this machine.
pub(crate) async fn plan(coordinator: Option<Address>, args: PlanArgs) -> Result<(), Failure> {
    let loaded = load(args.spec).await?;
    let spec = &loaded.spec;
    let inputs = loaded.files.inputs();
    let plan = match coordinator {
        Some(at) => {
            let client = Client::connect(&at).await?;
            let plan = client.plan(&spec.to_toml(), &inputs).await.map_err(|e| loaded.refused(e))?;
            PlanView::remote(&plan, client.url())
        }
        None => PlanView::local(&local(spec, &inputs)),
    };
    if args.json.json { output::print_json(&plan) } else { output::print(&tables::plan(&plan)) }
}

/// By the code that coordinators use too; nothing is measured here, so rates are the assumed ones.
fn local(spec: &Spec, inputs: &Inputs) -> Plan {
    Plan::new(spec, inputs, &Rates::default(), &Sizing::default(), cores())
}

/// Cores this process may use.
pub(crate) fn cores() -> u32 {
    std::thread::available_parallelism().map_or(1, |n| u32::try_from(n.get()).unwrap_or(1))
}
