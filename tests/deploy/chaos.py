"""Changes a deployed stack while it is busy, and says who noticed what.

Each change is made while clients publish, newcomers connect, and a server
broadcasts. Whatever they notice, afterwards every client has had every message
once and in order, no connection was closed, and everybody is served.
"""

import functools
import time

# An outage lasts this long, and until everybody who must notice it has.
OUTAGE_SECONDS = 3
LONGEST_OUTAGE_SECONDS = 60
# How long the traffic goes on after a change.
AFTERWARDS_SECONDS = 1

# On a slow machine, five publishers are enough for this.
BUSY = {"CHANNEL_BUSY", "ChannelBusy"}


class Chaos:
    def __init__(self, scenario, build, traffic):
        self.scenario, self.build, self.traffic = scenario, build, traffic
        self.functions = scenario.resources()
        self.lambda_ = scenario.client("lambda")
        # Later deploys, too: another build would change the code again.
        scenario.environment["BUILD_DIR"] = str(build.path)
        self.rows = []

    def during(self, name, change, noticed_by=None):
        """Makes a change. `noticed_by`: exactly those who must notice it."""
        self.traffic.begin()
        began = time.monotonic()
        change()
        took = time.monotonic() - began
        time.sleep(AFTERWARDS_SECONDS)
        seen = self.traffic.end(leaves_rows="sweeper" in (noticed_by or ()))
        assert not seen["closed"], f"{name} closed connections: {seen}"
        assert noticed_by is None or who_noticed(seen) == noticed_by, (name, seen)
        self.rows.append(row(name, took, seen))

    def by_hand(self):
        self.during("nothing", lambda: time.sleep(OUTAGE_SECONDS), noticed_by=set())
        self.during("`Default` replaced", self.replace_default)
        everybody = {"clients", "newcomers"}
        self.during("`Default` cannot start", lambda: self.break_default(everybody), everybody)
        for function, noticed_by in [
            ("Default", everybody),
            ("Connect", {"newcomers"}),
            ("Disconnect", {"sweeper"}),
            ("Broadcaster", {"server"}),
        ]:
            throttle = functools.partial(self.throttle, function, noticed_by)
            self.during(f"`{function}` throttled to 0", throttle, noticed_by)

    def update_code(self):
        before = self.configuration("Default")["CodeSha256"]
        self.build.change_code()
        self.scenario.redeploy()
        assert self.configuration("Default")["CodeSha256"] != before

    def fail_to_update(self):
        before = self.configuration("Default")
        self.build.change_code()
        self.build.add_broken_resource()
        said = self.scenario.redeploy("MessagesPerMinute=900", fails=True)
        assert "Broken" in said and "UPDATE_ROLLBACK_COMPLETE" in said, said
        self.build.remove_broken_resource()
        self.build.change_code(-1)
        after = self.configuration("Default")
        for name in ("CodeSha256", "Environment"):
            assert after[name] == before[name], (before, after)

    def replace_default(self):
        self.build.change_code()
        code = self.build.zipped("Default")
        self.lambda_.update_function_code(FunctionName=self.functions["Default"], ZipFile=code)

    def break_default(self, noticed_by):
        """Takes one of its settings away."""
        name, before = self.functions["Default"], self.configuration("Default")["Environment"]["Variables"]
        less = {key: value for key, value in before.items() if key != "WEBSOCKET_CONNECTION_TABLE"}
        self.lambda_.update_function_configuration(FunctionName=name, Environment={"Variables": less})
        self.wait_until_noticed(noticed_by)
        self.lambda_.update_function_configuration(FunctionName=name, Environment={"Variables": before})

    def throttle(self, function, noticed_by):
        name = self.functions[function]
        self.lambda_.put_function_concurrency(FunctionName=name, ReservedConcurrentExecutions=0)
        self.wait_until_noticed(noticed_by)
        self.lambda_.delete_function_concurrency(FunctionName=name)

    def wait_until_noticed(self, expected):
        rows, end = self.traffic.newcomer_rows(), time.monotonic() + LONGEST_OUTAGE_SECONDS
        time.sleep(OUTAGE_SECONDS)
        while not expected <= who_noticed(seen := self.traffic.noticed(rows)):
            assert time.monotonic() < end, f"not all of {expected} have noticed: {seen}"
            time.sleep(0.2)

    def configuration(self, function):
        return self.lambda_.get_function_configuration(FunctionName=self.functions[function])

    def print_table(self):
        head = ("change", "took", "frames refused", "longest wait", "newcomers", "server")
        for cells in (head, ("---",) * len(head), *self.rows):
            print(f"| {' | '.join(cells)} |", flush=True)


def who_noticed(seen):
    noticed = {
        "clients": seen["refused"].keys() - BUSY,
        "newcomers": seen["newcomers"].keys() - {"welcome"},
        "server": seen["server"].keys() - BUSY - {"ok"},
        # The one who finds a row that `$disconnect` has left.
        "sweeper": seen["rowsLeft"],
    }
    return {who for who, what in noticed.items() if what}


def row(name, took, seen):
    def listed(counts):
        return ", ".join(f"{count} {what}" for what, count in counts.items()) or "none"

    newcomers = seen["newcomers"] | ({"rows left": seen["rowsLeft"]} if seen["rowsLeft"] else {})
    refused = f"{listed(seen['refused'])} ({seen['published']} published, {seen['repeated']} repeated)"
    return (name, f"{took:.1f} s", refused, f"{seen['longestMs'] / 1000:.1f} s", listed(newcomers), listed(seen["server"]))
