"""From events to what the model reads: templates, words for times, blocks of text, batches of tokens."""
