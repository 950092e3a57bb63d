"""The scoring job: manifest and bundle to a run. The one door to Ray.

job keeps the books, pipeline names the four stages and gives them resources, cluster joins or starts Ray, watch counts
and guards. What a stage does stands in stages/. This file imports none of them: every worker would pay for all.
"""
