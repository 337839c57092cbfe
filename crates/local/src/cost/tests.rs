use clap::Parser;
use proptest::prelude::*;
use serde_json::Value;

use super::bill::Bill;
use super::page::{PAGE, Prices, units};
use super::usage::{Usage, of, of_listeners};
use super::{CostArgs, text};
use crate::cli::{Cli, Command};

fn parse(flags: &str) -> Result<CostArgs, String> {
    let words = ["belfry", "cost"]
        .into_iter()
        .chain(flags.split_whitespace());
    match Cli::try_parse_from(words)
        .map_err(|error| error.to_string())?
        .command
    {
        Command::Cost(arguments) => Ok(*arguments),
        _ => panic!("another command"),
    }
}

fn usage(flags: &str) -> Usage {
    of(&parse(flags).unwrap())
}

fn bill(usage: &Usage) -> Bill {
    Bill::new(usage, &Prices::listed(), 1.0)
}

#[track_caller]
fn assert_close(found: f64, expected: f64) {
    let difference = (found - expected).abs();
    assert!(
        difference <= expected.abs() * 1e-9 + 1e-9,
        "{found}, not {expected}"
    );
}

/// The commands of a page, with what it says that they print.
fn shown_commands() -> Vec<(String, &'static str)> {
    let blocks = PAGE.split("```\n").skip(1).step_by(2);
    let shown = blocks.filter_map(|block| block.strip_prefix("$ target/debug/belfry cost "));
    shown
        .map(|block| {
            let lines = block.split_inclusive('\n');
            let continued = lines.take_while(|line| line.ends_with("\\\n")).count();
            let lines: Vec<_> = block.split_inclusive('\n').collect();
            let (command, output) = lines.split_at(continued + 1);
            let command = command.concat().replace("\\\n", " ");
            (command, &block[block.len() - output.concat().len()..])
        })
        .collect()
}

#[test]
fn the_page_shows_what_its_commands_print() {
    let commands = shown_commands();
    assert!(commands.len() >= 4, "{commands:?}");
    for (flags, output) in commands {
        let printed = text(&parse(&flags).unwrap()).unwrap();
        assert_eq!(printed, output, "{flags}");
    }
}

/// The comparison shows one line of each command's output.
#[test]
fn the_comparison_shows_what_its_commands_print() {
    let page = include_str!("../../../../docs/COMPARISON.md");
    let lines: Vec<_> = page.lines().collect();
    let mut compared = 0;
    for pair in lines.windows(2) {
        let Some(flags) = pair[0]
            .strip_prefix("$ target/debug/belfry cost ")
            .and_then(|command| command.strip_suffix(" | grep Together"))
        else {
            continue;
        };
        let printed = text(&parse(flags).unwrap()).unwrap();
        let together = printed.lines().find(|line| line.contains("Together"));
        assert_eq!(together, Some(pair[1]), "{flags}");
        compared += 1;
    }
    assert_eq!(compared, 4);
}

#[test]
fn the_price_of_a_million_operations_follows_from_their_units() {
    let table = PAGE.split_once("| operation |").unwrap().1;
    let rows = table.lines().skip(2).take_while(|row| row.starts_with('|'));
    let prices = Prices::listed();
    for row in rows {
        let cells: Vec<_> = row.split('|').map(str::trim).collect();
        let units = units(cells[1]);
        let write = prices.named("dynamodb-write").of(units.write);
        let read = prices.named("dynamodb-read").of(units.read);
        assert_close(cells[4].parse().expect(row), (write + read) * 1e6);
    }
}

/// docs/CHOOSING.md says what a client costs in a month that is always there.
#[test]
fn the_prices_of_the_ways_to_listen_follow_from_the_same_units() {
    let page = include_str!("../../../../docs/CHOOSING.md");
    let ways = [
        ("WebSocket", "--connections 10000 --subscriptions 1"),
        ("Server-Sent Events", "--sse-clients 10000"),
        ("long polling, `wait=20`", "--long-poll-clients 10000"),
        ("short polling, every minute", "--short-poll-clients 10000"),
    ];
    let missing = ways.map(|(way, flags)| {
        let dollars = ["24", "1440", "86400"].map(|messages| {
            let flags = format!("{flags} --history-hours 1 --messages-per-user {messages}");
            let usage = of_listeners(&parse(&flags).unwrap());
            format!("${:.2}", bill(&usage).total() / 10_000.0)
        });
        let (start, end) = (
            format!("| {way} | "),
            format!(" | {} |", dollars.join(" | ")),
        );
        let is_there = |row: &str| row.starts_with(&start) && row.ends_with(&end);
        (!page.lines().any(is_there)).then_some((way, dollars))
    });
    assert_eq!(missing, [const { None }; 4]);
}

#[test]
fn a_large_message_that_workers_post_costs_its_record() {
    let of = |bytes: u32| {
        let flags = "--connections 1000 --fan-out 500 --publishes-per-user 1 --message-bytes";
        usage(&format!("{flags} {bytes}"))
    };
    // With what is around them, 700 and 5,000 bytes.
    let (small, large) = (of(400), of(4_700));
    let few = units("publish: a worker posts to 500 subscribers");
    let many = units("publish: a worker posts 5 KB to 500 subscribers");
    let messages = 1_000.0 * 730.0 / 24.0;
    let write = large.write_units - small.write_units;
    assert_close(write, messages * (many.write - few.write));
    let read = large.read_units - small.read_units;
    assert_close(read, messages * (many.read - few.read));
}

/// By hand: one connection that is open all the time, without a message.
#[test]
fn an_idle_connection_costs_its_minutes_and_its_pings() {
    let nobody = usage("--short-poll-clients 0.000001");
    let one = usage("--connections 1");
    assert_close(one.connection_minutes, 43_800.0);
    // A ping and its pong each 480 seconds.
    assert_close(one.messages, 2.0 * 5_475.0);
    // Twelve connections a day.
    let sessions = 12.0 * 730.0 / 24.0;
    assert_close(one.invocations["connect"], sessions);
    assert_close(one.invocations["frame"], 5_475.0);
    let write = one.write_units - nobody.write_units;
    assert!(
        (write - (5_475.0 * 7.0 + sessions * 16.0)).abs() < 1.0,
        "{write}"
    );
    let read = one.read_units - nobody.read_units;
    assert!(
        (read - (5_475.0 * 2.0 + sessions * 3.0)).abs() < 1.0,
        "{read}"
    );
}

#[test]
fn a_message_is_billed_in_steps_of_32_kilobytes() {
    let posted = |bytes: u32| {
        let flags = format!("--connections 1 --messages-per-user 24 --message-bytes {bytes}");
        usage(&flags).messages - usage("--connections 1").messages
    };
    assert_close(posted(500), 730.0);
    assert_close(posted(32_768 - 300), 730.0);
    assert_close(posted(32_768 - 299), 2.0 * 730.0);
    assert_close(posted(131_072), 5.0 * 730.0);
}

/// By hand: with 300 bytes around it, the larger message takes 8 units to read.
#[test]
fn larger_messages_are_read_in_steps_of_4_kilobytes() {
    let more = |flags: &str| {
        let reads = |bytes: u32| {
            let flags = format!("{flags} --history-hours 1 --message-bytes {bytes}");
            usage(&flags).read_units
        };
        reads(32_768 - 300) - reads(300)
    };
    let (seconds, hourly) = (730.0 * 3_600.0, 730.0);
    // The head and the newest entry, in one query.
    let appends = hourly * 15.0;
    assert_close(more("--connections 1 --messages-per-user 24"), appends);
    assert_close(
        more("--connections 1 --publishes-per-user 24 --fan-out 1"),
        appends,
    );
    assert_close(more("--connections 1 --acks-per-user 24"), hourly * 7.0);
    // A recovery reads the head, and what was missed.
    let (found, polls) = (hourly * 2.0 * 7.0, 730.0 * 60.0 * 7.0);
    assert_close(
        more("--short-poll-clients 1 --messages-per-user 24"),
        appends + polls + found,
    );
    let (streams, looks) = (seconds / 56.0 * 7.0, (seconds / 2.0 + 2.0 * hourly) * 3.5);
    assert_close(
        more("--sse-clients 1 --messages-per-user 24"),
        appends + streams + looks + found,
    );
}

/// By hand: four workers, each with 25 full pages and one that is empty.
#[test]
fn workers_post_to_a_large_channel() {
    let publishes = |count: u32| {
        let flags = "--connections 100000 --fan-out 100000 --publishes-per-user";
        usage(&format!("{flags} {count}"))
    };
    let (without, with) = (publishes(0), publishes(1));
    let each = |of: fn(&Usage) -> f64| (of(&with) - of(&without)) / (100_000.0 * 730.0 / 24.0);
    assert_close(each(|usage| usage.invocations["frame"]), 1.0);
    assert_close(
        with.invocations["broadcast"],
        4.0 * 100_000.0 * 730.0 / 24.0,
    );
    // The frame, the record, the end; offers and leases; checkpoints.
    assert_close(each(|usage| usage.write_units), 1.0 + 2.0 + 8.0 + 104.0);
    // A page of 1,000 takes 37.
    let subscribers = 26.0 + 99.5 * 37.0;
    assert_close(each(|usage| usage.read_units), subscribers + 3.0 * 4.0);
}

#[test]
fn each_use_costs_something_and_twice_as_much_twice() {
    let total = |flags: &str| bill(&usage(flags)).total();
    let base = "--connections 200 --fan-out 50 --history-hours 24 ";
    for flag in [
        "--messages-per-user",
        "--broadcasts",
        "--frames-per-user",
        "--publishes-per-user",
        "--presence-joins-per-user",
        "--acks-per-user",
        "--locks-per-user",
        "--sse-clients",
        "--long-poll-clients",
        "--short-poll-clients",
    ] {
        // Enough that every second has its trace.
        let with = |count: u32| total(&format!("{base}{flag} {count}"));
        let (first, second) = (
            with(2_000_000) - with(1_000_000),
            with(3_000_000) - with(2_000_000),
        );
        assert!(
            first > 1.0 && (first - second).abs() < first * 1e-6,
            "{flag}: {first}, {second}"
        );
    }
    for (less, more) in [
        ("--connections 200", "--connections 200 --hooks"),
        ("--connections 200", "--connections 200 --subscriptions 3"),
        (
            "--connections 200 --session-minutes 60",
            "--connections 200 --session-minutes 30",
        ),
        (
            "--connections 200 --ping-interval 480",
            "--connections 200 --ping-interval 60",
        ),
        (
            "--connections 200 --hours-per-day 8",
            "--connections 200 --hours-per-day 9",
        ),
        (
            "--connections 200 --messages-per-user 5",
            "--connections 200 --messages-per-user 5 --history-hours 1",
        ),
        (
            "--connections 200 --fan-out 100 --publishes-per-user 5",
            "--connections 200 --fan-out 101 --publishes-per-user 5",
        ),
        (
            "--connections 200 --history-hours 1 --messages-per-user 5 --message-bytes 700",
            "--connections 200 --history-hours 1 --messages-per-user 5 --message-bytes 800",
        ),
    ] {
        assert!(total(less) < total(more), "{less}; {more}");
    }
}

#[test]
fn a_price_can_be_replaced() {
    let api = |flags: &str| {
        let bill: Value = serde_json::from_str(&text(&parse(flags).unwrap()).unwrap()).unwrap();
        let lines = bill["lines"].as_array().unwrap();
        let minutes = lines
            .iter()
            .find(|line| line["what"] == "connection minutes")
            .unwrap();
        (
            minutes["price"].as_f64().unwrap(),
            minutes["dollars"].as_f64().unwrap(),
        )
    };
    assert_eq!(api("--connections 100 --json"), (0.25, 1.095));
    let (price, dollars) = api("--connections 100 --json --price api-minute=0.5");
    assert_close(price, 0.5);
    assert_close(dollars, 2.19);
}

#[test]
fn json_has_all_lines_and_they_add_up() {
    let flags = "--connections 100 --sse-clients 100 --json";
    let bill: Value = serde_json::from_str(&text(&parse(flags).unwrap()).unwrap()).unwrap();
    let lines = bill["lines"].as_array().unwrap();
    assert_eq!(lines.len(), 13);
    let sum: f64 = lines
        .iter()
        .map(|line| line["dollars"].as_f64().unwrap())
        .sum();
    for line in lines {
        let of = |name: &str| line[name].as_f64().unwrap();
        assert_close(of("dollars"), of("quantity") * of("price") / of("per"));
        assert_ne!(line["service"], "");
    }
    assert_close(bill["total"].as_f64().unwrap(), sum);
    assert_close(bill["perUser"].as_f64().unwrap(), sum / 200.0);
}

#[test]
fn nonsense_is_refused_with_what_to_do() {
    for (flags, problem) in [
        ("", "--connections 1000"),
        ("--connections 0", "--connections 1000"),
        ("--connections -1", "unexpected argument '-1'"),
        ("--connections=-1", "must be a number from 0"),
        ("--connections nan", "must be a number from 0"),
        ("--connections inf", "must be a number from 0"),
        ("--connections 1e10", "must be a number from 0"),
        ("--connections 1 --hours-per-day 0", "at most 24"),
        ("--connections 1 --hours-per-day 25", "at most 24"),
        ("--connections 1 --session-minutes 121", "1..=120"),
        ("--connections 1 --ping-interval 521", "1..=520"),
        ("--connections 1 --subscriptions 51", "0..=50"),
        ("--connections 1 --message-bytes 131073", "1..=131072"),
        ("--connections 1 --publishes-per-user 1", "--fan-out"),
        ("--connections 1 --locks-per-user 1", "--fan-out"),
        (
            "--connections 9 --publishes-per-user 1 --fan-out 10",
            "than there are --connections (9)",
        ),
        (
            "--sse-clients 9 --messages-per-user 1",
            "--history-hours 24",
        ),
        (
            "--connections 1 --price api-minutes=1",
            "did you mean api-minute",
        ),
        ("--connections 1 --price api-minute=free", "must be dollars"),
        ("--connections 1 --price api-minute=-1", "must be dollars"),
        ("--connections 1 --price api-minute", "NAME=VALUE"),
    ] {
        let error = parse(flags)
            .and_then(|arguments| text(&arguments))
            .unwrap_err();
        assert!(error.contains(problem), "{flags}: {error}");
    }
}

proptest! {
    #[test]
    fn whatever_is_accepted_has_a_price(
        flags in prop::collection::vec((prop::sample::select(vec![
            "connections", "hours-per-day", "session-minutes", "ping-interval", "messages-per-user", "broadcasts",
            "frames-per-user", "subscriptions", "publishes-per-user", "fan-out", "presence-joins-per-user",
            "acks-per-user", "locks-per-user", "message-bytes", "history-hours", "sse-clients", "price",
        ]), "[0-9]{1,9}(\\.[0-9]{1,3})?|[a-z=0-9.-]{0,20}"), 0..6),
    ) {
        let flags: Vec<_> = flags.iter().map(|(flag, value)| format!("--{flag}={value}")).collect();
        if let Ok(arguments) = parse(&flags.join(" ")) && arguments.check().is_ok() {
            let total = bill(&of(&arguments)).total();
            prop_assert!(total.is_finite() && total > 0.0, "{total}");
        }
    }
}
