import eslint from "@eslint/js";
import tseslint from "typescript-eslint";

export default tseslint.config(
  { ignores: ["dist", "build", "docs", "src/generated", "**/node_modules"] },
  eslint.configs.recommended,
  {
    files: ["**/*.ts"],
    extends: [...tseslint.configs.strictTypeChecked, ...tseslint.configs.stylisticTypeChecked],
    languageOptions: { parserOptions: { projectService: true, tsconfigRootDir: import.meta.dirname } },
    rules: {
      "@typescript-eslint/restrict-template-expressions": ["error", { allowNumber: true }],
      "max-len": ["error", { code: 120 }],
    },
  },
  {
    files: ["**/*.js"],
    languageOptions: {
      globals: { Buffer: "readonly", console: "readonly", process: "readonly", setTimeout: "readonly" },
    },
    rules: { "max-len": ["error", { code: 120 }] },
  },
);
