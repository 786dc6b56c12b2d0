"""What a backtest came to, in lines for a terminal and in figures for gates."""

from typing import Any

Json = dict[str, Any]
FIGURES = ("loss", "shortfall", "shortfall_max", "closed_out", "insolvent", "peak_exposure", "rejected", "slices")


def figures(result: Json) -> Json:
    """Return the figures that gates and ``--json`` name: of each variant, of detection, and what mitigation saved."""
    found: Json = {name: {key: one[key] for key in FIGURES} for name, one in result["variants"].items()}
    for name, one in result["variants"].items():
        found[name]["breaches"] = sum(one["breach_levels"].values())
        found[name]["hard"] = sum(n for level, n in one["breach_levels"].items() if level.endswith(" hard"))
        found[name]["commands"] = sum(one["command_kinds"].values())
        found[name]["refused"] = sum(len(verdict["refused"]) for verdict in one["verdicts"])
    found["detection"] = {key: value for key, value in result["detection"].items() if key not in ("terms", "lead_s")}
    pair = compared(result)
    if pair is not None:
        found["saved"] = pair[0]["loss"] - pair[1]["loss"]
        found["saved_worst"] = pair[0]["shortfall_max"] - pair[1]["shortfall_max"]
    return found


def compared(result: Json) -> tuple[Json, Json] | None:
    """Return the variants without and with mitigation: those of these names, or the first and the last."""
    variants = result["variants"]
    if "unmitigated" in variants and "mitigated" in variants:
        return variants["unmitigated"], variants["mitigated"]
    listed = list(variants.values())
    return (listed[0], listed[-1]) if len(listed) > 1 else None


def as_lines(result: Json) -> list[str]:
    """Return the result for a person."""
    told = []
    for name, one in result["variants"].items():
        levels = ", ".join(f"{count} {level}" for level, count in sorted(one["breach_levels"].items())) or "none"
        kinds = ", ".join(f"{count} {kind}" for kind, count in sorted(one["command_kinds"].items())) or "none"
        told.append(
            f"{name}: loses {one['loss']:,.0f}; clients cannot pay {one['shortfall']:,.0f} at the end, "
            f"{one['shortfall_max']:,.0f} at the worst, {one['insolvent']} of {one['clients']} below nothing"
        )
        told += [f"  changes of level: {levels}", f"  commands: {kinds}"]
        told.append(f"  {one['slices']:,} slices of {one['records']:,} records, {one['rejected']} rejected; "
                    f"journal {one['journal_sha256'][:16]}")  # fmt: skip
        told += [f"  {verdict_line(found)}" for found in one["verdicts"] if found["scope"] == "firm"]
    pair = compared(result)
    if pair is not None:
        told.append(f"{pair[1]['name']} saves {pair[0]['loss'] - pair[1]['loss']:,.0f} against {pair[0]['name']}")
    return [*told, detection_line(result["detection"])]


def detection_line(found: Json) -> str:
    """Return how good detection was, in a line."""
    terms = found["terms"]
    if not found["episodes"]:
        return f"detection: no move of {terms['move']:.0%} within {terms['within_s']} s; {found['alerts']} alerts"
    lead = "" if found["median_lead_s"] is None else f", {found['median_lead_s']:,.0f} s before the break-out (median)"
    precision = "" if found["precision"] is None else f", {found['precision']:.0%} of them near one"
    return (
        f"detection: {found['told']} of {found['episodes']} moves of {terms['move']:.0%} told of{lead}; "
        f"{found['alerts']} alerts{precision}"
    )


def verdict_line(found: Json) -> str:
    """Return a verdict in a line."""
    head = f"{found['scope']}, by the {found['every']}"
    if found["tests"] is None:
        return f"{head}: {found['reason']}"
    tests = found["tests"]
    refused = ", ".join(found["refused"]) or "nothing"
    return (
        f"{head}: {tests['hits']} losses beyond var_99 of {found['observations']}, {tests['light']['zone']}; "
        f"Kupiec p {tests['kupiec']['p_value']:.3f}, Christoffersen p {tests['conditional']['p_value']:.3f}, "
        f"Z2 {tests['shortfall']['statistic']:.3f} (refused below {tests['shortfall']['critical']:.3f}); "
        f"refused: {refused}"
    )
