"""The scoring job: manifest and bundle to a run. The one door to Ray.

job keeps the books, plan says what the options come to, pipeline names the four stages and gives them resources, shares
cuts the work, reuse carries forward, films draws, cluster joins or starts Ray, watch counts and guards. What a stage
does stands in stages/. This file imports none of them: every worker would pay for all.
"""
