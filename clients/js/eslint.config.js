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
      // `noUncheckedIndexedAccess` knows no bounds that were checked a line before.
      "@typescript-eslint/no-non-null-assertion": "off",
      "@typescript-eslint/no-unused-vars": ["error", { argsIgnorePattern: "^_" }],
      // A signal's reason may be anything, and is thrown as it is.
      "@typescript-eslint/prefer-promise-reject-errors": "off",
      "no-unused-private-class-members": "off", // does not know `??=`
      // It does not know that what is awaited may change a field.
      "@typescript-eslint/no-unnecessary-condition": "off",
      "@typescript-eslint/restrict-template-expressions": ["error", { allowNumber: true }],
      "max-len": ["error", { code: 120, ignoreTemplateLiterals: true, ignoreStrings: true }],
    },
  },
  {
    files: ["test/**/*.ts"],
    rules: {
      // `node:test` keeps the promises of its tests.
      "@typescript-eslint/no-floating-promises": ["error", { allowForKnownSafeCalls: ["test"] }],
    },
  },
  {
    files: ["**/*.js"],
    languageOptions: {
      globals: {
        AbortController: "readonly",
        Buffer: "readonly",
        clearTimeout: "readonly",
        console: "readonly",
        process: "readonly",
        setTimeout: "readonly",
        TextDecoder: "readonly",
        URL: "readonly",
      },
    },
    rules: { "max-len": ["error", { code: 120 }] },
  },
);
