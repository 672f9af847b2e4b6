"""Each thing that went wrong in a translating proxy before has a test here that names it.

A row is one pitfall and the threads in which somebody met it; at least one of the threads stands in
a test, which shows that it does not happen here.
"""

from pathlib import Path

import pytest

TESTS = Path(__file__).parent

PITFALLS = {
    1: ("BerriAI/litellm#5231",),
    2: (
        "mozilla-ai/any-llm#970",
        "ai-dynamo/dynamo#4723",
        "huggingface/smolagents#1958",
    ),
    3: ("BerriAI/litellm#15307",),
    4: (
        "headroomlabs-ai/headroom#2890",
        "ls1intum/edutelligence#923",
        "QwenLM/Qwen-Agent#943",
    ),
    5: ("BerriAI/litellm#25321",),
    6: ("BerriAI/litellm#5091",),
    7: ("BerriAI/litellm#29286",),
    8: ("BerriAI/litellm#18238",),
    9: ("BerriAI/litellm#19028",),
    10: ("TriDefender/zcode-api#23",),
    11: ("jasonxu114514/opencode2api#27",),
    12: ("anthropics/claude-code#16785",),
    13: ("BerriAI/litellm#32357",),
    14: (
        "BerriAI/litellm#12463",
        "vercel/ai#6577",
    ),
    15: (
        "maximhq/bifrost#5097",
        "musistudio/claude-code-router#1808",
    ),
    16: ("weave-os/router#581",),
    17: ("langchain-ai/langchain#37756",),
    18: ("NVIDIA-NeMo/Switchyard#502",),
    19: ("BerriAI/litellm#23510",),
    20: ("ducks/claux#40",),
    21: ("leookun/cursor-byok#364",),
    22: (
        "agno-agi/agno#5382",
        "langgenius/dify#28987",
    ),
    23: (
        "diegosouzapw/OmniRoute#4317",
        "decolua/9router#393",
    ),
    24: (
        "BerriAI/litellm#17904",
        "BerriAI/litellm#26398",
        "cline/cline#11885",
    ),
    25: ("BerriAI/litellm#30557",),
    26: (
        "diegosouzapw/OmniRoute#13552",
        "anthropics/claude-code#40075",
        "anomalyco/opencode#35516",
    ),
    27: ("BerriAI/litellm#24443",),
    28: ("hivecommons/hive#1643",),
    29: ("hivecommons/hive#1633",),
    30: (
        "OpenHands/OpenHands#7512",
        "lidge-jun/opencodex#620",
    ),
    31: ("netease-lcap/wave-agent#1368",),
    32: ("aaif-goose/goose#7393",),
    33: (
        "BerriAI/litellm#20403",
        "BerriAI/litellm#34462",
        "router-for-me/CLIProxyAPI#5706",
        "weave-os/router#965",
    ),
    34: ("LibreChat-AI/agents#344",),
    35: (
        "CommandCodeAI/command-code#850",
        "sgl-project/sglang#19233",
    ),
    36: (
        "ggml-org/llama.cpp#22536",
        "raine/claude-code-proxy#59",
    ),
    37: (
        "aliasrobotics/cai#182",
        "NousResearch/hermes-agent#11929",
    ),
    38: (
        "anthropics/anthropic-sdk-python#461",
        "anomalyco/opencode#31259",
    ),
    39: (
        "mckaywrigley/chatbot-ui#1656",
        "anthropics/anthropic-sdk-typescript#622",
    ),
    40: (
        "chenyme/grok2api#598",
        "router-for-me/CLIProxyAPI#3608",
    ),
    41: ("JustVugg/colibri#725",),
    42: ("Xerxes-2/clewdr#121",),
    43: (
        "api7/aisix#1144",
        "musistudio/claude-code-router#1372",
        "sgl-project/sglang#29169",
    ),
    44: (
        "BerriAI/litellm#38809",
        "BerriAI/litellm#41361",
        "openai/openai-agents-python#4155",
    ),
    45: (
        "anomalyco/opencode#3077",
        "langgenius/dify#41092",
    ),
    46: ("BerriAI/litellm#27051",),
    47: ("BerriAI/litellm#27074",),
    48: ("BerriAI/litellm#8837",),
    49: (
        "braintrustdata/braintrust-proxy#242",
        "srtab/daiv#527",
    ),
    50: (
        "kortix-ai/suna#4833",
        "odysseus-dev/odysseus#3117",
        "Comfy-Org/ComfyUI#13923",
    ),
    51: ("ENTERPILOT/GoModel#45",),
    52: (
        "router-for-me/CLIProxyAPI#1700",
        "sgl-project/sglang#20678",
        "ai-dynamo/dynamo#7206",
        "ollama/ollama#13934",
    ),
    53: (
        "experientiallabs/experiential#914",
        "raine/claude-code-proxy#86",
    ),
    54: (
        "ogx-ai/ogx#6415",
        "askui/python-sdk#303",
        "Helicone/helicone#5652",
    ),
    55: ("traceloop/openllmetry#2175",),
    56: (
        "BerriAI/litellm#30761",
        "BerriAI/litellm#36553",
        "TheR1D/shell_gpt#741",
    ),
    57: (
        "envoyproxy/ai-gateway#2236",
        "envoyproxy/ai-gateway#1631",
        "cline/cline#4346",
    ),
    58: (
        "router-for-me/CLIProxyAPI#3055",
        "openai/codex#41340",
    ),
    59: (
        "Soju06/codex-lb#1479",
        "Wei-Shaw/sub2api#7129",
        "BerriAI/litellm#28899",
    ),
    60: ("onyx-dot-app/onyx#13624",),
    61: (
        "stdapi-ai/stdapi.ai#294",
        "openai/openai-dotnet#881",
        "can1357/oh-my-pi#2570",
    ),
    62: ("openai/codex#43337",),
    63: ("praxis-proxy/ai#1005",),
    64: ("musistudio/claude-code-router#1799",),
    65: ("raine/claude-code-proxy#29",),
    66: (
        "Yeachan-Heo/oh-my-claudecode#3574",
        "jundot/omlx#26",
    ),
    67: ("tontinton/maki#777",),
    68: ("langwatch/langwatch#6207",),
    69: (
        "BerriAI/litellm#36024",
        "BerriAI/litellm#37322",
        "bitrouter/bitrouter#422",
        "LuthienResearch/luthien-proxy#804",
    ),
    70: ("archestra-ai/archestra#7810",),
    71: (
        "Wei-Shaw/sub2api#770",
        "kartikkabadi/opencode-go-proxy#12",
    ),
    72: (
        "dstackai/dstack#4269",
        "ggml-org/llama.cpp#20872",
    ),
    73: (
        "BerriAI/litellm#13774",
        "BerriAI/litellm#31499",
        "BerriAI/litellm#37140",
        "QuantumNous/new-api#4184",
    ),
    74: ("BerriAI/litellm#41203",),
    75: (
        "decolua/9router#1468",
        "anthropics/claude-code#21612",
        "Wei-Shaw/sub2api#1968",
    ),
    76: ("sseshachala/conductai#2179",),
    77: (
        "BerriAI/litellm#13252",
        "envoyproxy/ai-gateway#1360",
    ),
    78: ("router-for-me/CLIProxyAPI#679",),
    79: (
        "CommandCodeAI/command-code#885",
        "lidge-jun/opencodex#3204",
    ),
    80: (
        "antirez/ds4#745",
        "router-for-me/CLIProxyAPI#5753",
        "github/gh-aw-firewall#8350",
    ),
    81: ("diegosouzapw/OmniRoute#5483",),
    82: (
        "router-for-me/CLIProxyAPI#658",
        "Helicone/helicone#5629",
        "maximhq/bifrost#5773",
    ),
    83: (
        "calebevans/mulder#192",
        "anthropics/claude-code#91689",
    ),
    84: ("QuantumNous/new-api#6549",),
}


@pytest.fixture(scope="module")
def test_sources() -> str:
    """All tests but this file."""
    files = (path for path in TESTS.rglob("*") if path.suffix in (".py", ".golden", ".txt"))
    mine = Path(__file__)
    kept = [path for path in files if path != mine and "node_modules" not in path.parts]
    return "\n".join(path.read_text() for path in kept)


@pytest.mark.parametrize("number", PITFALLS)
def test_every_pitfall_has_its_test(number: int, test_sources: str) -> None:
    assert [reference for reference in PITFALLS[number] if reference in test_sources]
