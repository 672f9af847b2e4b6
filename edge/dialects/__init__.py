"""Wire dialects: one package each, no I/O.

Where caller and upstream speak the same dialect the bytes pass through (`passthrough` here and in
each package). Otherwise requests and answers are translated through a form of no vendor's:

    conversation        a request: turns of blocks, tools, settings
    events              a reply: a sequence of events, and its fold into a whole reply
    codec               the protocol of a dialect: ClientSide, UpstreamSide
    restore             reverts in an answer what its request had to change
    signatures          packs thinking signatures and encrypted reasoning for other dialects
    foreign_signatures  removes another model's signatures from a request of the same dialect
    tool_names          ids and tool names as each dialect allows them

    openai_chat, openai_completions, openai_responses, anthropic_messages
        read_request    caller's body -> Conversation
        write_answer    events -> caller's bytes
        write_request   Conversation -> upstream's body
        read_answer     upstream's bytes -> events
"""
