"""Wire dialects: one package each, no I/O.

Where caller and upstream speak the same dialect the bytes pass through (`passthrough.py` here and
in each package). Everywhere else an answer goes through the neutral form:

    neutral     a conversation, and a reply as a sequence of events
    sides       what a dialect offers: ClientSide, UpstreamSide
    crossing    joins two sides for one attempt
    undo        takes back in an answer what was changed in its request
    opaque      thinking signatures and encrypted reasoning in a foreign dialect
    foreign     takes those of another maker out of a request in the same dialect
    thread      how a conversation begins, and whether a turn is open in it
    names       ids and tool names as each dialect allows them

    openai_chat, openai_completions, openai_responses, anthropic_messages
        read_request    the caller's body -> Conversation
        write_answer    events -> the caller's bytes
        write_request   Conversation -> the upstream's body
        read_answer     the upstream's bytes -> events
"""
