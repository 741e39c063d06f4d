from proxy.demo.library import Library, library, sections

DOCS = {
    "cancel.md": "# Cancelling\n\nPost to /runs/{id}/cancel.\n\n```sh\n# not a heading\ncurl\n```\n\n"
    "## Waiting\n\nAdd wait.",
    "keys.md": "Intro about keys.\n\n# Keys\n\nSet api_keys to protect runs.\n",
    "long.md": "# Long\n\n" + "\n\n".join(f"paragraph {number} " + "word " * 30 for number in range(20)),
}


def test_search_finds_the_section_by_its_words_and_their_forms() -> None:
    books = Library(DOCS.items())
    assert books.search("How do I cancel a run?")[0].title == "Cancelling"
    assert [hit.title for hit in books.search("api_keys?")] == ["Keys"]
    assert books.search("what is the") == []
    assert books.search("zebra") == []


def test_a_heading_inside_a_code_block_is_none() -> None:
    found = list(sections("cancel.md", DOCS["cancel.md"]))
    assert [section.title for section in found] == ["Cancelling", "Waiting"]
    assert "# not a heading" in found[0].text


def test_an_excerpt_ends_with_a_paragraph() -> None:
    [hit] = Library(DOCS.items()).search("paragraph", limit=1)
    assert len(hit.excerpt) < 720
    assert hit.excerpt.endswith("word ...")


def test_the_projects_documentation_is_found() -> None:
    assert library().search("Runwire")
