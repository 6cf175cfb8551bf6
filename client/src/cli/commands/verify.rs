//! `nadgrid verify`: random blocks of a complete sweep, computed again and compared bit for bit.

use crate::cli::args::VerifyArgs;
use crate::cli::{Failure, output, tables};
use futures::StreamExt;
use nadgrid_client::{Address, CheckView, Client, Error};

/// Has blocks computed again; fails when one of them has other bits.
pub(crate) async fn verify(at: Address, args: VerifyArgs) -> Result<(), Failure> {
    let client = Client::connect(&at).await?;
    let seed = args.seed.unwrap_or_else(|| uuid::Uuid::new_v4().as_u64_pair().0);
    let mut responses = client.verify(&args.id, args.sample, seed).await?;
    let mut total = 0;
    let mut wrong = 0;
    let mut failed = 0;
    let mut done = 0;
    let mut is_first = true;
    while let Some(response) = responses.next().await {
        let response = response?;
        let was_first = std::mem::replace(&mut is_first, false);
        let expected = total;
        total = response.total;
        if !was_first && (total != expected || done >= total || response.shard.is_none()) {
            return Err(Error::Contract(format!("more shards were reported than the {expected} announced")).into());
        }
        let Some(check) = CheckView::of(&response) else {
            output::note(&format!(
                "{} hold {} random blocks (seed {seed})",
                tables::count(total.into(), "shard"),
                args.sample
            ));
            continue;
        };
        done += 1;
        wrong += u32::from(!check.agrees && check.message.is_none());
        failed += u32::from(check.message.is_some());
        if args.json.json {
            output::print_json_line(&check)?;
        } else {
            output::print(&line(&check, response.done, total))?;
        }
    }
    if wrong > 0 {
        return Err(Failure::Disagreement(format!("{wrong} of {total} shards differ from their committed results")));
    }
    if failed > 0 || done < total {
        return Err(Failure::other(format!("only {} of {total} shards could be recomputed", done - failed)));
    }
    output::note(&format!("all {total} shards match bit for bit"));
    Ok(())
}

fn line(check: &CheckView, done: u32, total: u32) -> String {
    let blocks =
        format!("[{done}/{total}] {} blocks {}..{}", check.job, check.first_block, check.first_block + check.blocks);
    match &check.message {
        Some(message) => format!("{blocks}: {message}"),
        None if check.agrees => format!("{blocks}: same bits, {}", tables::short(&check.committed)),
        None => format!(
            "{blocks}: OTHER BITS, {} by {} and now {} by {}",
            tables::short(&check.committed),
            check.committed_by,
            tables::short(&check.recomputed),
            check.recomputed_by
        ),
    }
}
