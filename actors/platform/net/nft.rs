//! The one way to the kernel's rules: the program `nft`, one transaction a change.
//!
//! Never writes a rule itself.

use super::{NetConfig, NetError};
use crate::limits::NFT_DEADLINE;
use std::process::Stdio;
use tokio::io::AsyncWriteExt;
use tokio::process::Command;

/// Applies the text as one transaction.
pub(super) async fn apply(rules: &str) -> Result<(), NetError> {
    run(&["-f", "-"], rules).await.map(drop)
}

/// What the kernel has of the instance's tables; absent where one of them is missing.
pub(super) async fn listed(config: &NetConfig) -> Result<Option<String>, NetError> {
    let table = config.table();
    let mut text = String::new();
    for family in ["ip", "bridge"] {
        match run(&["--stateless", "list", "table", family, &table], "").await {
            Ok(part) => text.push_str(&part),
            Err(NetError::Nft { message, .. }) if message.contains("No such file") => {
                return Ok(None);
            }
            Err(error) => return Err(error),
        }
    }
    Ok(Some(text))
}

/// Runs the program with that input; gives its output.
pub(super) async fn run(args: &[&str], input: &str) -> Result<String, NetError> {
    let mut child = Command::new("nft")
        .args(args)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .map_err(|source| NetError::NoNft { source })?;
    let stdin = child.stdin.take();
    let talk = async {
        if let Some(mut stdin) = stdin {
            // A broken pipe: nft says on stderr why it left early.
            let _ = stdin.write_all(input.as_bytes()).await;
        }
        child.wait_with_output().await
    };
    let output = tokio::time::timeout(NFT_DEADLINE, talk)
        .await
        .map_err(|_| NetError::NftSlow { after: NFT_DEADLINE })?
        .map_err(|source| NetError::NoNft { source })?;
    if output.status.success() {
        return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
    }
    let text = String::from_utf8_lossy(&output.stderr);
    let message = text.lines().next().unwrap_or("no reason given").trim().to_owned();
    Err(NetError::Nft { message, remedy: remedy(&text) })
}

fn remedy(text: &str) -> &'static str {
    if text.contains("not permitted") {
        "run mill as root"
    } else if text.contains("No such file") || text.contains("not supported") {
        "this kernel lacks a part of nftables: modprobe -a nf_tables nft_chain_nat nft_masq \
         nft_fib_ipv4 nft_numgen nft_reject_ipv4 nf_tables_bridge"
    } else {
        "see `nft list ruleset`"
    }
}
