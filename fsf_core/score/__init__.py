"""The scoring job: manifest and bundle to a run. The one door to Ray.

job keeps the books, plan says what the options come to, flow holds it, pipeline hands it to Ray Data, shares cuts the
work, whole is an actor that does all with it, reuse carries forward, films draws, cluster joins or starts Ray, lean
leaves out what Ray Data starts for nothing, guard and watch see what takes its process down. What a stage does stands
in stages/. This file imports none of them: every worker would pay for all.
"""
