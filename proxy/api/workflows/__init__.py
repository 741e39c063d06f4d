"""The routes of the workflow dialect, which stands under `/api/v1`. Source: the SDKs of ModelRelay."""
