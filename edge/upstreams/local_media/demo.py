"""Configuration of the local models for `penstock demo --local`."""

import msgspec

from edge.config.load import Settings, parse

VOICE, WHISPER, OCR, ECHO = "local-voice", "local-whisper", "local-ocr", "sim-text"


def served_by(settings: Settings) -> Settings:
    """`settings` of a demo with the local models added, and used to turn media into text.

    The model `ECHO` repeats what it gets and takes text only, so that one sees what media become.
    """
    own = parse(
        {
            "upstreams": [
                {"name": "simulator", "dialect": "simulator"},
                {"name": "local-media", "dialect": "local-media"},
            ],
            "models": [
                {
                    "id": VOICE,
                    "display_name": "Hibari, an English voice",
                    "output_modalities": ["audio"],
                    "targets": ["local-media/voice"],
                },
                {
                    "id": WHISPER,
                    "display_name": "Whisper tiny, English",
                    "modalities": ["audio"],
                    "targets": ["local-media/whisper-tiny"],
                },
                {
                    "id": OCR,
                    "display_name": "RapidOCR, reads the words in pictures",
                    "modalities": ["text", "image"],
                    "targets": ["local-media/ocr"],
                },
                {
                    "id": ECHO,
                    "display_name": "Simulator that takes text only",
                    "modalities": ["text"],
                    "targets": ["simulator/sim-text"],
                },
            ],
            "media": {"image": OCR, "audio": WHISPER, "video": OCR},
        },
        env={},
    )
    return msgspec.structs.replace(
        settings,
        upstreams=(*settings.upstreams, own.upstreams[1]),
        models=(*settings.models, *own.models),
        media=own.media,
    )
