use super::*;

fn widest(text: &str) -> usize {
    text.lines().map(|line| line.chars().count()).max().unwrap_or(0)
}

#[test]
fn columns_are_aligned_and_numbers_lean_right() {
    let mut table = Table::new(&[Column::name("SERVICE"), Column::number("BYTES"), Column::text("STATE")]);
    table.row(["web".into(), "1.5 MiB".into(), "open".into()]);
    table.row(["database".into(), "12 B".into(), String::new()]);
    assert_eq!(table.render(), "SERVICE     BYTES  STATE\nweb       1.5 MiB  open\ndatabase     12 B  -\n");
}

#[test]
fn names_are_shortened_in_the_middle_and_stay_distinct() {
    let long = "engineering-department-of-the-whole-company-in-the-north";
    let mut table =
        Table::new(&[Column::name("TENANT"), Column::name("SERVICE"), Column::text("DESTINATION")]);
    for suffix in ["1", "2", "13"] {
        table.row([format!("{long}-{suffix}"), format!("x{suffix}-{long}"), "10.0.0.1:443".into()]);
    }
    let text = table.render();
    assert!(widest(&text) <= WIDTH, "{text}");
    assert!(text.contains('…') && text.contains("10.0.0.1:443"), "{text}");
    let mut tenants: Vec<&str> = text.lines().skip(1).filter_map(|line| line.split("  ").next()).collect();
    tenants.sort_unstable();
    tenants.dedup();
    assert_eq!(tenants.len(), 3, "{text}");
    assert!(tenants.iter().all(|tenant| tenant.ends_with(['1', '2', '3'])), "{text}");
}

#[test]
fn names_that_differ_in_the_middle_only_are_not_shortened_into_one() {
    let name = |middle: &str| format!("{}{middle}{}", "a".repeat(35), "z".repeat(35));
    let mut table = Table::new(&[Column::name("NAME"), Column::text("ADDRESS")]);
    for middle in ["-one-", "-two-"] {
        table.row([name(middle), "2001:db8:1111:2222:3333:4444:5555:6666".into()]);
    }
    let text = table.render();
    assert!(widest(&text) <= WIDTH, "{text}");
    let names: Vec<&str> = text.lines().filter(|line| line.starts_with('a')).collect();
    assert_eq!(names.len(), 2);
    assert_ne!(names[0], names[1], "{text}");
}

#[test]
fn what_does_not_fit_continues_on_the_next_line_of_the_row() {
    let mut table = Table::new(&[
        Column::name("SERVICE"),
        Column::text("SOURCE"),
        Column::text("DESTINATION"),
        Column::number("BYTES"),
    ]);
    let address = "[2001:db8:1111:2222:3333:4444:5555:6666]:65535";
    table.row(["web".into(), address.into(), address.into(), "1.5 MiB".into()]);
    let text = table.render();
    assert!(widest(&text) <= WIDTH, "{text}");
    assert_eq!(text.lines().count(), 4, "{text}");
    assert_eq!(text.matches(address).count(), 2, "{text}");
    assert!(text.lines().nth(1).is_some_and(|line| line.starts_with("    DESTINATION")), "{text}");
}

#[test]
fn a_cell_longer_than_a_line_keeps_both_ends() {
    let mut table = Table::new(&[Column::text("X")]);
    table.row([format!("begin{}end", "-".repeat(300))]);
    let text = table.render();
    assert!(widest(&text) <= WIDTH);
    assert!(text.contains("begin") && text.contains("end\n"));
}

#[test]
fn paragraphs_break_long_paths_before_a_slash() {
    let path = "/fairway:authority/router[name='branch-office-number-one']/node[name='one']/device-interface[name='eth0']";
    let text = paragraph(4, "route", 8, &format!("via the peer {path}"));
    assert!(widest(&text) <= WIDTH, "{text}");
    assert!(text.starts_with("    route    via the peer\n"), "{text}");
    let joined: String = text.lines().skip(1).map(str::trim).collect();
    assert_eq!(joined, path);
}
