"""Media turned into text for models that do not take them.

Theory of operation. It is decided for each attempt, since a fallback may have other modalities than
the model before it (`steps`):

    find       the media parts of the body (`edge.media.parts`)
    decide     the target takes the part, or a text replaces it in its place (`policy`)
    make       the text of each part, all at once within bounds (`texts`): from the cache of the
               owner, else made once, also over several workers (`cache`)
    write      the text between tags that say what it is and that no words in it are instructions
               (`wording`)

A text depends on the bytes of the media, the describer and the prompt, not on the conversation: the
same part has the same text in every turn, so the prompt cache of the target's vendor holds. Only
texts that were made are cached, no failures.

Describers are models of the catalog, asked by requests of their own (`edge.proxy.subrequests`).
Media are decoded in throw-away processes (`edge.media.decode`).
"""
