"""How much a learner has kept: average accuracy and forgetting of an accuracy matrix.

`matrix[i][j]` is the accuracy on task j after stage i. The learner met task 0 before stage 0, and
task j in stage j. Forgetting is that of Chaudhry et al., *Riemannian Walk for Incremental
Learning* (ECCV 2018): for each task but the last, its best accuracy before the last stage minus its
final one.
"""

from collections.abc import Sequence

Matrix = Sequence[Sequence[float]]


def average_accuracy(matrix: Matrix) -> float:
    """The mean accuracy over all tasks after the last stage."""
    return sum(matrix[-1]) / len(matrix[-1])


def forgetting(matrix: Matrix) -> float:
    """The mean forgetting of all tasks but the last; negative where later stages helped."""
    final = matrix[-1]
    earlier = len(final) - 1
    if earlier < 1:
        return 0.0
    return sum(max(row[j] for row in matrix[:-1]) - final[j] for j in range(earlier)) / earlier
