"""Judging suite of Menura: scores converters with referees that no training uses."""
