//! `fairway show interfaces`.

use fairway_router::api::{Interface, Nothing, Request, Response, Show};

use super::{connect, present};
use crate::args::ShowPlain;
use crate::failure::Failure;
use crate::table::{Column, Table, paragraph};
use crate::units;

/// Shows interfaces.
pub fn run(args: &ShowPlain) -> Result<(), Failure> {
    let mut router = connect(args)?;
    match router.ask(&Request::Show(Show::Interfaces(Nothing {})))? {
        Response::Interfaces(interfaces) => present(args, &interfaces, |interfaces| table(interfaces)),
        other => Err(router.unexpected(&other)),
    }
}

/// The table of `show interfaces`: further addresses on lines of their own, and below what is wrong.
pub fn table(interfaces: &[Interface]) -> String {
    let mut table = Table::new(&[
        Column::name("NAME"),
        Column::text("DEVICE"),
        Column::text("IO"),
        Column::text("KIND"),
        Column::name("TENANT"),
        Column::text("STATE"),
        Column::number("MTU"),
        Column::text("ADDRESS"),
        Column::number("RECEIVED"),
        Column::number("SENT"),
        Column::number("DROPS"),
    ]);
    let mut notes = String::new();
    for interface in interfaces {
        let mut addresses = interface.addresses.iter().map(ToString::to_string);
        // A VLAN device of the kernel has a name of its own.
        let device = match interface.tagged {
            false => interface.device.clone(),
            true => format!("{} tag {}", interface.device, interface.vlan),
        };
        table.row([
            interface.name.clone(),
            device,
            interface.io.clone().unwrap_or_default(),
            interface.kind.clone(),
            interface.tenant.clone().unwrap_or_default(),
            if interface.up { "up" } else { "down" }.to_owned(),
            interface.mtu_bytes.to_string(),
            addresses.next().unwrap_or_default(),
            units::bytes(interface.received.bytes),
            units::bytes(interface.sent.bytes),
            interface.drops.iter().map(|drop| drop.count).sum::<u64>().to_string(),
        ]);
        for address in addresses {
            let mut cells = vec![String::new(); 7];
            cells.push(address);
            table.continued(cells);
        }
        notes.push_str(&remarks(interface));
    }
    table.render() + &notes
}

/// What an operator should know of an interface beyond its row.
fn remarks(interface: &Interface) -> String {
    let mut remarks = Vec::new();
    if !interface.missing_addresses.is_empty() {
        let list: Vec<String> = interface.missing_addresses.iter().map(ToString::to_string).collect();
        remarks.push(format!("the device lacks {}, which the configuration names", list.join(", ")));
    }
    let link = interface.link.as_ref();
    let counts = [
        (link.map_or(0, |link| link.conflicts), "times somebody else claimed an address of this interface"),
        (link.map_or(0, |link| link.unasked), "next hops could not be asked for"),
        (interface.receive_overruns, "packets lost because the router was too slow"),
        (interface.receive_unusable, "packets could not be received whole"),
        (interface.punts_discarded, "packets for the host could not be handed over"),
    ];
    remarks
        .extend(counts.iter().filter(|(count, _)| *count > 0).map(|(count, what)| format!("{count} {what}")));
    let drops = interface.drops.iter().filter(|drop| drop.count > 0);
    remarks.extend(drops.map(|drop| format!("{} dropped on their way out: {}", drop.count, drop.name)));
    let lines = remarks
        .iter()
        .map(|remark| paragraph(0, "", 0, &units::printable(&format!("{}: {remark}", interface.name))));
    lines.collect()
}
