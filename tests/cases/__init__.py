"""The hard cases: what each is (`catalogue`), which tests prove it (`marks`), how they ended (`plugin`, `report`)."""
