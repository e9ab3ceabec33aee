"""The whole job from one file: read and check a recipe, and run it."""

from xharmonize.recipe.settings import Recipe, read_recipe, write_example
from xharmonize.recipe.steps import Done, Plan, plan, run

__all__ = ["Done", "Plan", "Recipe", "plan", "read_recipe", "run", "write_example"]
