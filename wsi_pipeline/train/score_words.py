"""What scores are called in text: on pages, in figures and in sentences."""

_WORDS = {
    "auroc": "AUROC",
    "auroc_macro": "AUROC, mean of classes",
    "auprc": "AUPRC",
    "auprc_macro": "AUPRC, mean of classes",
    "ece": "ECE",
    "ece_after_temperature": "ECE after temperature",
    "brier": "Brier score",
    "brier_after_temperature": "Brier score after temperature",
    "f1": "F1",
    "f1_macro": "F1, mean of classes",
}


def word_of(score: str) -> str:
    """Return a score's name as people know it; of those not told of here its own, with spaces.

    >>> word_of("auroc"), word_of("balanced_accuracy")
    ('AUROC', 'balanced accuracy')
    """
    return _WORDS.get(score, score.replace("_", " "))
