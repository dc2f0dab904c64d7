"""What the text of compiled programs has."""

import re


def conditions(text):
    """The results of the conditions in StableHLO.

    What depends on the platform alone is none: it is a condition of one branch, of a
    number that another condition has for each platform.
    """
    condition = re.compile(
        r"^(?=( *)%\S+ = \"stablehlo\.(?:case|if)\"\((.*?)^\1\}\) : \(.*?\) -> (.*?)$)",
        re.M | re.S,
    )
    return [
        found[3]
        for found in condition.finditer(text)
        if f"\n{found[1]}}}, {{" in found[2] and found[3] != "tensor<i32>"
    ]
