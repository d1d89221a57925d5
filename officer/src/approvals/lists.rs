//! `officer crl push`: hands a new revocation list to the signer, with this officer's word for it. It never makes a list, and
//! decides nothing: the authority signed it, and the signer holds it against the one in force.

use std::fs;
use std::io::Write;
use std::path::PathBuf;

use anyhow::{Context as _, Result, ensure};
use clap::Args;
use mtls::{der, pushed};
use proto::PushRevocationsRequest;
use sha2::{Digest as _, Sha256};
use statement::{Deed, NO_TOKEN, Says, Signed, Task};

use super::commands::{Saying, sign, tell, to_people, write};
use super::desk::{Desk, refusal};
use crate::text::{time, words};

/// A list, and a statement about it.
#[derive(Debug, Args)]
pub struct OnList {
    /// The authority's newest list, PEM or DER.
    pub list: PathBuf,
    /// Hand in what was signed elsewhere with --offline, and sign nothing here.
    #[arg(long, conflicts_with = "offline")]
    pub statement: Option<PathBuf>,
    /// How it is said.
    #[command(flatten)]
    pub saying: Saying,
}

/// Shows the list, asks, signs, and hands both in.
///
/// # Errors
/// When it is no list, nobody says yes, or the signer says no.
pub async fn push(args: &OnList, out: &mut impl Write) -> Result<()> {
    let desk = Desk::load(&args.saying.common.config)?;
    let shown = args.list.display();
    let bytes = fs::read(&args.list).with_context(|| format!("cannot read {shown}"))?;
    let list = pushed::one(&bytes).map_err(anyhow::Error::msg);
    let list = list.with_context(|| format!("{shown} is no revocation list to hand in"))?;
    let digest: [u8; 32] = Sha256::digest(&list).into();
    let read = der::list(&list).context("the list cannot be read")?;
    let (made, due) = (time(read.validity.from), time(read.validity.until));
    let number = read.number.map_or("none".to_owned(), hex::encode);
    let issuer = hex::encode(Sha256::digest(read.issuer));
    writeln!(
        to_people(&args.saying, out),
        "list        sha256 {}\nnumber      {number}\nmade        {made}\nnext due    {due}\nissuer      sha256 of its name {issuer}",
        hex::encode(digest)
    )?;
    let task = Task { deed: Deed::Revocations(digest), token: NO_TOKEN.to_owned() };
    let signed = match &args.statement {
        Some(file) => {
            let bytes =
                fs::read(file).with_context(|| format!("cannot read {}", file.display()))?;
            Signed::from_file(&bytes)?
        }
        None => sign(&desk, &args.saying, Says::Administer(task.clone()), u64::MAX, out)?,
    };
    let named = statement::Statement::parse(&signed.statement)?;
    ensure!(named.says == Says::Administer(task), "the statement is not about this list");
    let digest = hex::encode(Sha256::digest(&signed.statement));
    let said = match &args.saying.offline {
        Some(file) => {
            write(file, &signed)?;
            let file = file.display();
            format!(
                "written to {file}: whoever has a connection hands it in (officer crl push {shown} --statement {file})"
            )
        }
        None => {
            let Signed { statement, signature } = signed;
            let request = PushRevocationsRequest { list, statement, signature: signature.to_vec() };
            let reply = desk.connect().await?.push_revocations(request).await;
            words(&reply.map_err(|status| refusal(&status))?.into_inner().said)
        }
    };
    tell(&args.saying, &digest, &said, out)
}
